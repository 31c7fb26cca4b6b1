"""The header blocks of answers. Nothing goes into the header table, so they can be made ahead.

The first block on a connection says so, by setting the table's size to 0: then no later change
of the client's settings asks for a word from us (RFC 7541, section 4.2).
"""

from __future__ import annotations

from collections.abc import Iterable

from serving.frontends.grpc.lane.metadata import Value, field, percent_encoded
from serving.frontends.grpc.status_code import StatusCode

NO_TABLE = b"\x20"

_STATUS_INDEX = 8  # ":status 200" is 8 in the static table, and the first with that name
_CONTENT_TYPE_INDEX = 31


def _integer(value: int, bits: int, first: int) -> bytes:
    """Return a number with a prefix of ``bits`` bits; ``first`` is what is above them."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    digits = bytearray([first | most])
    value -= most
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _string(text: bytes) -> bytes:
    return _integer(len(text), 7, 0) + text


def literal(name: bytes | int, value: bytes) -> bytes:
    """Return a field that is not put into the table; ``name`` may be its static index."""
    begin = _integer(name, 4, 0) if isinstance(name, int) else b"\0" + _string(name)
    return begin + _string(value)


BEGIN = b"\x88" + literal(_CONTENT_TYPE_INDEX, b"application/grpc")
"""Opens an answer that has a message."""

OK = literal(b"grpc-status", b"0")
"""Ends an answer that has one."""


def trailers(code: StatusCode, details: str, more: Iterable[tuple[str, Value]]) -> bytes:
    """Return the block that ends a call with a status."""
    parts = [literal(b"grpc-status", b"%d" % code)]
    if details:
        parts.append(literal(b"grpc-message", percent_encoded(details)))
    parts += [literal(*field(name, value)) for name, value in more]
    return b"".join(parts)


def trailers_only(code: StatusCode, details: str, more: Iterable[tuple[str, Value]]) -> bytes:
    """Return the only block of a call that ends before it has an answer."""
    return BEGIN + trailers(code, details, more)


def http_status(status: int) -> bytes:
    """Return the only block for a request that is no gRPC call."""
    return literal(_STATUS_INDEX, b"%d" % status)
