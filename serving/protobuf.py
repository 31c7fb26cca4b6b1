"""Cut fields out of serialised protobuf messages, and write them, without protobuf's own copies.

protobuf would copy the bytes of a tensor twice more in each direction; so those are read and
written here, and the small rest is left to protobuf. The encoding
(https://protobuf.dev/programming-guides/encoding) is a row of fields::

    tag (number << 3 | kind), varint     and for kind 2: length, varint     that many bytes
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5

Buffer = bytes | memoryview

Span = tuple[int, int]
"""Where something begins and ends."""


class Malformed(ValueError):
    """The bytes are no serialised message."""


class TooManyFields(Malformed):
    """The message may be sound, but has more fields than were to be looked at."""


def cut(message: Buffer, number: int, most: int) -> tuple[bytes, tuple[memoryview, ...]]:
    """Return the message without field ``number``, and views of what that field holds.

    The field must be a message, ``bytes`` or ``string``; the views are in the message's order.
    Raises Malformed when the bytes are cut short or no message, and TooManyFields when there
    are more than ``most`` fields; the work is bounded by that.
    """
    view = memoryview(message)
    size = len(message)
    wanted = number << 3 | _DELIMITED
    found: list[memoryview] = []
    kept: list[memoryview] = []
    at = since = fields = 0
    while at < size:
        start = at
        tag = message[at]
        at += 1
        if tag >= 0x80:
            tag, at = varint(message, start)
        kind = tag & 7
        if kind == _DELIMITED:
            length, at = varint(message, at)
            at += length
        elif kind == _VARINT:
            _, at = varint(message, at)
        elif kind == _FIXED32:
            at += 4
        elif kind == _FIXED64:
            at += 8
        else:
            raise Malformed
        if at > size:
            raise Malformed
        if tag == wanted:
            if since < start:
                kept.append(view[since:start])
            found.append(view[at - length : at])
            since = at
        fields += 1
        if fields > most:
            raise TooManyFields
    if since < size:
        kept.append(view[since:])
    return b"".join(kept), tuple(found)


def spans(message: Buffer, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Iterate over the fields of a message within another: tag, and where its value stands.

    Of values with a length that is what follows the length. Raises Malformed.
    """
    at = start
    while at < end:
        tag, at = varint(message, at)
        begin, kind = at, tag & 7
        if kind == _DELIMITED:
            length, begin = varint(message, at)
            at = begin + length
        elif kind == _VARINT:
            _, at = varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise Malformed
        if at > end:
            raise Malformed
        yield tag, begin, at


def prefix(number: int, size: int) -> bytes:
    """Return what stands before ``size`` bytes of a message, ``bytes`` or ``string`` field."""
    return as_varint(number << 3 | _DELIMITED) + as_varint(size)


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


def varint(message: Buffer, at: int) -> tuple[int, int]:
    """Return the number at ``at`` and the position after it; raises Malformed."""
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
    raise Malformed
