"""Turn whatever went wrong with an inference call into the reply that the client gets."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable

from serving.errors import InternalError, ServingError
from serving.frontends.rest.status import http_status, retry_headers
from serving.frontends.rest.wire import Headers, Reply, request_id

ErrorForm = Callable[[ServingError, str], tuple[bytes, bytes]]
"""A wire format's way to write an error and the request's id: body and content type."""

_log = logging.getLogger("serving.rest")


def refusal(error: Exception, headers: Headers, form: ErrorForm) -> Reply:
    """Return an error in a wire format's form; faults of the server are logged with their id."""
    id = request_id(headers) or secrets.token_hex(8)
    if not isinstance(error, ServingError):
        _log.error("request %s failed", id, exc_info=error)
        error = InternalError("the server failed")
    body, content_type = form(error, id)
    return Reply(body, content_type, tuple(retry_headers(error)), http_status(error))
