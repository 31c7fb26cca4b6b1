"""Protobuf's wire form, read field by field without a schema and without copying.

A field is a varint ``number << 3 | type`` and its value: 0 varint, 1 eight bytes, 2 a varint
length and that many bytes, 5 four bytes (https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

from dataclasses import dataclass
from mmap import mmap
from typing import Iterator, Union

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
Buffer = Union[bytes, mmap, memoryview]  # builders run it on Python 3.9, too


class WireError(ValueError):
    """The bytes are no protobuf message, or end in the middle of one."""


@dataclass(frozen=True)
class Field:
    """One field: its number and type, where it begins (its tag), and where its value lies.

    For a varint ``value`` is the number; for others the value is ``buffer[start:end]``.
    """

    number: int
    type: int
    begin: int
    start: int
    end: int
    value: int = 0


def varint(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    """Return the number at ``at`` and the place after it; raises ``WireError``."""
    result = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise WireError("it ends in the middle of a number")
        byte = buffer[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
    raise WireError("it holds a number that is too long")


def fields(buffer: Buffer, start: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message in ``buffer[start:end]``; raises ``WireError``."""
    at = start
    while at < end:
        begin = at
        tag, at = varint(buffer, at, end)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise WireError("it holds a field numbered 0")
        value, first = 0, at
        if kind == VARINT:
            value, at = varint(buffer, at, end)
        elif kind == LENGTH:
            length, first = varint(buffer, at, end)
            at = first + length
        elif kind in (FIXED64, FIXED32):
            at = first + (8 if kind == FIXED64 else 4)
        else:
            raise WireError(f"it holds a field of type {kind}")
        if at > end:
            raise WireError("it ends in the middle of a field")
        yield Field(number, kind, begin, first, at, value)


def length_prefixed(number: int, content: bytes) -> bytes:
    """Return a field of bytes as it is written."""
    return _varint_bytes(number << 3 | LENGTH) + _varint_bytes(len(content)) + content


def _varint_bytes(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
