"""What every codec of this side shares: headers, replies, and the shape of a decoded call.

A codec turns bytes and headers into a ``Call`` and a call's responses into a ``Reply``; nothing
here or in a codec knows of ASGI, so that the lane at protocol level uses the same codecs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from serving.errors import InvalidRequest, ServingError, UnsupportedMedia
from serving.request import InferRequest, InferResponse

Headers = Mapping[bytes, bytes]
"""A request's headers, names in lower case; of a repeated header the last value."""

CLOSE = (b"connection", b"close")
"""The field of an answer with which the connection ends."""

_KNOWN_MEDIA = {
    kind.encode(): kind for kind in ("", "application/json", "application/octet-stream")
}
_MAX_TIMEOUT_MS = 24 * 3600 * 1000


class Reply(NamedTuple):
    """A complete answer: the body, its media type, further headers, and the HTTP status."""

    body: bytes
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    status: int = 200


class Call(Protocol):
    """One decoded HTTP request: the requests it asks for, and how to write their answers."""

    @property
    def requests(self) -> tuple[InferRequest, ...]:
        """The requests to run, at least one."""
        ...

    @property
    def encodes_fast(self) -> bool:
        """Whether even large outputs are written without work per element."""
        ...

    def failed(self, index: int, error: ServingError) -> ServingError:
        """Return the error of the call when the request at ``index`` failed with ``error``."""
        ...

    def encode(self, responses: Sequence[InferResponse]) -> Reply:
        """Write the responses (in the order of ``requests``); raises a ``ServingError``."""
        ...


def media_type(headers: Headers) -> str:
    """Return the content type without its parameters, in lower case; empty when not given.

    Raises UnsupportedMedia for a charset other than UTF-8 (or its subset ASCII).
    """
    value = headers.get(b"content-type", b"")
    known = _KNOWN_MEDIA.get(value)
    if known is not None:
        return known
    kind, _, rest = value.decode("latin-1").lower().partition(";")
    for parameter in rest.split(";"):
        key, _, text = parameter.partition("=")
        charset = text.strip().strip('"')
        if key.strip() == "charset" and charset not in ("utf-8", "utf8", "us-ascii"):
            raise UnsupportedMedia(
                "the body's character set is not read here",
                where="header Content-Type",
                expected="utf-8",
                given=repr(charset[:40]),
            )
    return kind.strip()


def deadline_from(headers: Headers, now: float) -> float | None:
    """Return the monotonic deadline that ``X-Request-Timeout-Ms`` asks for, if it is given."""
    text = headers.get(b"x-request-timeout-ms")
    if text is None:
        return None
    if text.isdigit() and len(text) <= 9 and 0 < int(text) <= _MAX_TIMEOUT_MS:
        return now + int(text) / 1000
    raise InvalidRequest(
        "the request's timeout cannot be read",
        code="bad_timeout",
        where="header X-Request-Timeout-Ms",
        expected=f"a whole number of milliseconds, 1 to {_MAX_TIMEOUT_MS}",
        given=repr(text[:40].decode("latin-1")),
    )


def request_id(headers: Headers) -> str:
    """Return the client's ``X-Request-Id`` when it is short and printable, else nothing."""
    value = headers.get(b"x-request-id")
    if value is None or not 0 < len(value) <= 128:
        return ""
    text = value.decode("latin-1")
    return text if text.isascii() and text.isprintable() else ""


def echo(headers: Headers) -> tuple[tuple[bytes, bytes], ...]:
    """Return the response header that repeats the client's request id, if it gave one."""
    id = request_id(headers)
    return ((b"x-request-id", id.encode()),) if id else ()
