"""Turn whatever went wrong with an inference call into the reply that the client gets."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable

from serving.dataplane import DataPlane
from serving.errors import InternalError, ServingError
from serving.frontends.rest.wire import CLOSE, Headers, Reply, request_id

ErrorForm = Callable[[ServingError, str], Reply]
"""A wire format's way to answer with an error; the text is the request's id."""

_log = logging.getLogger("serving.rest")


def refusal(error: Exception, headers: Headers, form: ErrorForm, plane: DataPlane) -> Reply:
    """Return an error in a wire format's form, counted.

    Faults of the server are logged with the request's id.
    """
    id = request_id(headers) or secrets.token_hex(8)
    if not isinstance(error, ServingError):
        _log.error("request %s failed", id, exc_info=error)
        error = InternalError("the server failed")
    plane.answered_with(error, "rest")
    return parting(form(error, id), error)


def parting(reply: Reply, error: ServingError) -> Reply:
    """Let the connection end with the answer of a server that goes down: others take the next."""
    if error.code != "draining":
        return reply
    return reply._replace(headers=(*reply.headers, CLOSE))
