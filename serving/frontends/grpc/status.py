"""Map errors to gRPC's status: code, text, and trailing metadata for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from serving.errors import ServingError, Status
from serving.frontends.grpc.status_code import StatusCode

CODES: Mapping[Status, StatusCode] = {
    Status.INVALID_ARGUMENT: StatusCode.INVALID_ARGUMENT,
    Status.NOT_FOUND: StatusCode.NOT_FOUND,
    Status.PAYLOAD_TOO_LARGE: StatusCode.RESOURCE_EXHAUSTED,
    Status.UNSUPPORTED_MEDIA_TYPE: StatusCode.INVALID_ARGUMENT,
    Status.METHOD_NOT_ALLOWED: StatusCode.UNIMPLEMENTED,
    Status.RESOURCE_EXHAUSTED: StatusCode.RESOURCE_EXHAUSTED,
    Status.FAILED_PRECONDITION: StatusCode.FAILED_PRECONDITION,
    Status.UNAUTHENTICATED: StatusCode.UNAUTHENTICATED,
    Status.UNAVAILABLE: StatusCode.UNAVAILABLE,
    Status.DEADLINE_EXCEEDED: StatusCode.DEADLINE_EXCEEDED,
    Status.CANCELLED: StatusCode.CANCELLED,
    Status.UNIMPLEMENTED: StatusCode.UNIMPLEMENTED,
    Status.INTERNAL: StatusCode.INTERNAL,
}

_DETAILS_LIMIT = 4096
"""Clients refuse trailers over 8 KiB in all, percent-encoding counted."""
_WHERE_LIMIT = 256


@dataclass(frozen=True)
class Outcome:
    """What a failed call ends with; its status, text and trailing metadata."""

    code: StatusCode
    details: str
    trailers: tuple[tuple[str, str | bytes], ...]


def outcome(error: ServingError) -> Outcome:
    """Return how a call ends that failed with ``error``; its text begins with the place.

    Trailers: ``error-code`` (the stable word), ``error-where`` (if known and plain ASCII), and
    ``grpc-retry-pushback-ms`` when it is known how long to wait (gRPC's own name for it: see
    proposal A6, client retries).
    """
    trailers: list[tuple[str, str | bytes]] = [("error-code", error.code)]
    where, text = error.where, str(error)
    if where and where not in text:
        text = f"{where}: {text}"
    if where and len(where) <= _WHERE_LIMIT and where.isascii() and where.isprintable():
        trailers.append(("error-where", where))
    if error.retry_after_s is not None:
        milliseconds = max(0, round(error.retry_after_s * 1000))
        trailers.append(("grpc-retry-pushback-ms", str(milliseconds)))
    return Outcome(CODES[error.status], _fitting(text), tuple(trailers))


def _fitting(text: str) -> str:
    """Cut a text so that it fits the trailers, encoded as gRPC encodes it."""
    # Lone surrogates cannot be sent at all; names from a client may hold none, others might.
    text = text.encode("utf-8", "replace").decode("utf-8")
    if len(text) <= _DETAILS_LIMIT and len(quote(text, safe=" /")) <= _DETAILS_LIMIT:
        return text
    text = text[:_DETAILS_LIMIT]
    while len(quote(text, safe=" /")) > _DETAILS_LIMIT:
        text = text[: len(text) * 7 // 8]
    return text + " ..."
