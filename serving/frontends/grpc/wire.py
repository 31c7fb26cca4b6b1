"""Cut the tensors' bytes out of a ModelInferRequest, and put them into a ModelInferResponse.

protobuf would copy raw tensors twice more in each direction. They are top-level ``bytes``
fields, so this reads and writes those fields itself (encoding:
https://protobuf.dev/programming-guides/encoding) and leaves the small rest to protobuf::

    tag (field << 3 | 2), varint     length, varint     that many bytes     next field ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from serving.errors import InvalidRequest

MAX_FIELDS = 16384
"""Top-level fields of a message: far over any real signature, and quickly walked through."""

_RAW_INPUT = 7 << 3 | 2
_RAW_OUTPUT = bytes([6 << 3 | 2])
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5


class Parcel(NamedTuple):
    """A request's message without raw contents (``head``), and views of those (``raw``)."""

    head: bytes
    raw: tuple[memoryview, ...]


def split(message: bytes) -> Parcel:
    """Return the parts of a serialised ModelInferRequest; ``raw`` are views, not copies.

    Raises InvalidRequest when the message is cut short, is no protobuf message, or has more
    than MAX_FIELDS fields.
    """
    view = memoryview(message)
    size = len(message)
    raw: list[memoryview] = []
    kept: list[memoryview] = []
    at = since = fields = 0
    while at < size:
        start = at
        tag = message[at]
        at += 1
        if tag >= 0x80:
            tag, at = _varint(message, start)
        kind = tag & 7
        if kind == _DELIMITED:
            length, at = _varint(message, at)
            at += length
        elif kind == _VARINT:
            _, at = _varint(message, at)
        elif kind == _FIXED32:
            at += 4
        elif kind == _FIXED64:
            at += 8
        else:
            raise malformed()
        if at > size:
            raise malformed()
        if tag == _RAW_INPUT:
            if since < start:
                kept.append(view[since:start])
            raw.append(view[at - length : at])
            since = at
        fields += 1
        if fields > MAX_FIELDS:
            raise InvalidRequest(
                "the message has too many fields",
                code="too_many_fields",
                expected=f"at most {MAX_FIELDS}",
            )
    if since < size:
        kept.append(view[since:])
    return Parcel(b"".join(kept), tuple(raw))


def join(head: bytes, raw: Sequence[bytes | memoryview]) -> bytes:
    """Return a serialised ModelInferResponse: ``head`` and then its raw output contents.

    ``raw`` are buffers without gaps; each is copied once, into the result.
    """
    parts: list[bytes | memoryview] = [head]
    for data in raw:
        size = len(data) if isinstance(data, bytes) else data.nbytes
        parts.append(_RAW_OUTPUT + as_varint(size))
        parts.append(data)
    return b"".join(parts)


def malformed() -> InvalidRequest:
    """Return the refusal of bytes that are not the message they should be."""
    return InvalidRequest(
        "the request is not a valid protobuf message of its type",
        code="bad_message",
        fix="generate the client from the Open Inference Protocol's .proto file",
    )


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number at ``at`` and the position after it."""
    try:
        value = message[at]
        at += 1
        if value < 0x80:
            return value, at
        value &= 0x7F
        for place in range(7, 70, 7):
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << place
            if byte < 0x80:
                return value, at
    except IndexError:
        pass
    raise malformed()


def as_varint(value: int) -> bytes:
    """Return a number that is not negative in protobuf's variable length."""
    if value < 0x80:
        return value.to_bytes()
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
