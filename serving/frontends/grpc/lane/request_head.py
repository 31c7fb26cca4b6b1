"""What the header fields of a call say, and whether they are a call at all.

Sources: RFC 9113, section 8 (what makes a request malformed); gRPC's PROTOCOL-HTTP2.md (method,
content type, timeout, encoding, metadata).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from serving.frontends.grpc.lane import metadata
from serving.frontends.grpc.lane.metadata import BadMetadata, Metadata
from serving.frontends.grpc.lane.settings import HEADER_LIST_BYTES
from serving.frontends.grpc.status_code import StatusCode

IDENTITY = b"identity"

Fields = Sequence[tuple[bytes, bytes]]

FIELD_OVERHEAD = 32
"""What each field counts besides its name and value (RFC 9113, section 6.5.2)."""

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE = re.compile(rb"[\0\r\n]|^[ \t]|[ \t]$")
_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_CONTENT_TYPE = re.compile(rb"application/grpc(\+[\w.+-]+)?(\s*;.*)?", re.IGNORECASE)
_NOT_METADATA = frozenset((b"te", b"content-type", b"content-length", b"host"))


class Malformed(Exception):
    """The fields are no HTTP request; the stream ends with PROTOCOL_ERROR."""


class WrongHttp(NamedTuple):
    """An HTTP request that is no gRPC call: the status of its answer."""

    status: int


class WrongCall(NamedTuple):
    """A gRPC call that cannot be begun: how it ends."""

    code: StatusCode
    details: str
    trailers: Metadata = ()


class Head(NamedTuple):
    """The head of a call. ``length`` is the announced Content-Length of all its DATA."""

    path: str
    timeout_s: float | None
    encoding: bytes
    metadata: Metadata
    length: int | None
    refusal: WrongHttp | WrongCall | None

    @property
    def plain(self) -> bool:
        """Whether it is a call of messages as they are."""
        return self.refusal is None and self.encoding == IDENTITY


def parse(fields: Fields) -> Head:
    """Return what the fields of a request say; raises Malformed."""
    pseudo = _checked(fields)
    regular = fields[len(pseudo) :]
    length = _length(regular)
    refusal = _refusal(pseudo[b":method"], fields)
    timeout_s: float | None = None
    encoding = IDENTITY
    found: list[tuple[str, metadata.Value]] = []
    try:
        for name, value in regular:
            if name == b"grpc-timeout":
                timeout_s = metadata.timeout_s(value)
            elif name == b"grpc-encoding":
                encoding = value
            elif name not in _NOT_METADATA and not name.startswith(b"grpc-"):
                key = name.decode()
                found += [(key, one) for one in metadata.values(key, value)]
    except BadMetadata as error:
        refusal = refusal or WrongCall(StatusCode.INTERNAL, str(error))
    path = pseudo[b":path"].decode("latin-1")
    return Head(path, timeout_s, encoding, tuple(found), length, refusal)


def extended(head: Head, fields: Fields, more: Fields) -> Head:
    """Return the head that ``fields`` and ``more`` are together; that of ``fields`` is ``head``.

    Raises Malformed.
    """
    every = [*fields, *more]
    plain = all(_is_plain(name) for name, _ in more)
    if not plain or head.refusal is not None or _size(every) > HEADER_LIST_BYTES:
        return parse(every)
    found: list[tuple[str, metadata.Value]] = []
    for name, value in more:
        _check_field(name, value)
        key = name.decode()
        found += [(key, one) for one in metadata.values(key, value)]
    return head._replace(metadata=head.metadata + tuple(found))


def check_trailers(fields: Fields) -> None:
    """Raise Malformed for fields that may not end a request's body."""
    for name, value in fields:
        _check_field(name, value)


def _checked(fields: Fields) -> dict[bytes, bytes]:
    """Return the pseudo-header fields, which come first; raises Malformed."""
    pseudo: dict[bytes, bytes] = {}
    regular = False
    for name, value in fields:
        if name[:1] == b":":
            if regular or name not in _PSEUDO or name in pseudo:
                raise Malformed
            if _BAD_VALUE.search(value):
                raise Malformed
            pseudo[name] = value
        else:
            regular = True
            _check_field(name, value)
    if not pseudo.get(b":method") or not pseudo.get(b":scheme") or not pseudo.get(b":path"):
        raise Malformed
    return pseudo


def _check_field(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name) or _BAD_VALUE.search(value):
        raise Malformed
    if name in _HOP_BY_HOP or (name == b"te" and value.lower() != b"trailers"):
        raise Malformed


def _length(regular: Fields) -> int | None:
    given = {value for name, value in regular if name == b"content-length"}
    if not given:
        return None
    text = given.pop()
    if given or not text.isdigit() or len(text) > 18:
        raise Malformed
    return int(text)


def _refusal(method: bytes, fields: Fields) -> WrongHttp | WrongCall | None:
    if method != b"POST":
        return WrongHttp(405)
    kinds = [value for name, value in fields if name == b"content-type"]
    if len(kinds) != 1 or not _CONTENT_TYPE.fullmatch(kinds[0]):
        return WrongHttp(415)
    size = _size(fields)
    if size > HEADER_LIST_BYTES:
        return WrongCall(
            StatusCode.RESOURCE_EXHAUSTED,
            f"the call's metadata takes {size} bytes; expected at most {HEADER_LIST_BYTES}",
        )
    return None


def _is_plain(name: bytes) -> bool:
    """Return whether a field is metadata as text, and nothing that the head of a call hangs on."""
    special = name.startswith((b":", b"grpc-")) or name.endswith(b"-bin")
    return not special and name not in _NOT_METADATA


def _size(fields: Fields) -> int:
    return sum([len(name) + len(value) + FIELD_OVERHEAD for name, value in fields])
