"""The one map from errors to HTTP, and the two forms in which REST clients see an error.

Own routes answer with ``application/problem+json`` (RFC 9457); V2 routes with the Open
Inference Protocol's ``{"error": text}``.
"""

from __future__ import annotations

import http
import math
from typing import Any

import orjson

from serving import error_guide
from serving.errors import ServingError, Status
from serving.frontends.rest.wire import Reply

HTTP_STATUS: dict[Status, int] = {
    Status.INVALID_ARGUMENT: 400,
    Status.NOT_FOUND: 404,
    Status.PAYLOAD_TOO_LARGE: 413,
    Status.UNSUPPORTED_MEDIA_TYPE: 415,
    Status.METHOD_NOT_ALLOWED: 405,
    Status.RESOURCE_EXHAUSTED: 429,
    Status.FAILED_PRECONDITION: 400,
    Status.UNAUTHENTICATED: 401,
    Status.UNAVAILABLE: 503,
    Status.DEADLINE_EXCEEDED: 504,
    Status.CANCELLED: 499,
    Status.UNIMPLEMENTED: 400,  # the request asks for it: nothing of the server has failed
    Status.INTERNAL: 500,
}
_RETRY = (Status.RESOURCE_EXHAUSTED, Status.UNAVAILABLE)


class MethodNotAllowed(ServingError):
    """The route exists and does not take this HTTP method."""

    status = Status.METHOD_NOT_ALLOWED
    code = "method_not_allowed"


def http_status(error: ServingError) -> int:
    """Return the HTTP status of an error."""
    return HTTP_STATUS[error.status]


def retry_headers(error: ServingError) -> list[tuple[bytes, bytes]]:
    """Return ``Retry-After`` (whole seconds, at least 1) for what may work later, else none.

    What will not work later by itself has no time: a model that failed to load, or a request that
    alone takes more memory than there is.
    """
    seconds = error.retry_after_s
    if seconds is None or error.status not in _RETRY:
        return []
    return [(b"retry-after", b"%d" % max(1, math.ceil(seconds)))]


def title(status: int) -> str:
    """Return the status in words."""
    return "Client Closed Request" if status == 499 else http.HTTPStatus(status).phrase


def problem(error: ServingError, request_id: str) -> Reply:
    """Return an error as a problem document.

    Members: type (a reference to the page on the code), title, status, detail, code, request_id;
    where, expected, given and fix when they say something.
    """
    status = http_status(error)
    document: dict[str, Any] = {
        "type": error_guide.type_of(error.code),
        "title": title(status),
        "status": status,
        "detail": error.message,
        "code": error.code,
    }
    for key in ("where", "expected", "given", "fix"):
        text = getattr(error, key)
        if text:
            document[key] = text
    document["request_id"] = request_id
    return _reply(error, document, b"application/problem+json")


def v2_error(error: ServingError, request_id: str) -> Reply:
    """Return an error in V2's form: one text that says where, what differed, and the fix."""
    text = str(error)
    if error.where and error.where not in text:
        text = f"{error.where}: {text}"
    if error.status is Status.INTERNAL and request_id:
        text += f" (request {request_id})"
    return _reply(error, {"error": text}, b"application/json")


def _reply(error: ServingError, document: dict[str, Any], content_type: bytes) -> Reply:
    headers = tuple(retry_headers(error))
    return Reply(dump(document), content_type, headers, http_status(error))


def dump(document: dict[str, Any]) -> bytes:
    """Write JSON even when a client's text holds what UTF-8 cannot (a lone surrogate)."""
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError:
        clean = {
            key: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
            for key, value in document.items()
        }
        return orjson.dumps(clean)
