"""Which tensors of a request lie in regions of clients, as bytes of its claim: one part for each.

::

    +--------------+------------+--------+----------+---------------+---------------+
    | target? u8   | region u32 | at u64 | size u64 | ``n`` of u16  | name of n     |
    +--------------+------------+--------+----------+---------------+---------------+

``at`` counts from the begin of the object. A region is known by its number on both sides.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import cast

from serving.frontends.shared_memory.region import Region
from serving.request import Elsewhere, FileSpan

_PART = struct.Struct("<BIQQH")


def encode(elsewhere: Elsewhere) -> bytes:
    """Return the bytes; all spans are of registered regions."""
    parts: list[bytes] = []
    for target, spans in enumerate(elsewhere):
        for name, span in spans.items():
            number, word = cast(Region, span.holder).number, name.encode()
            parts += (_PART.pack(target, number, span.at, span.size, len(word)), word)
    return b"".join(parts)


def decode(data: bytes, region_of: Callable[[int], Region]) -> Elsewhere:
    """Rebuild it over regions of this process; raises ValueError for what lies outside of them."""
    sides: tuple[dict[str, FileSpan], ...] = ({}, {})
    at = 0
    while at < len(data):
        try:
            target, number, begin, size, length = _PART.unpack_from(data, at)
        except struct.error:
            raise ValueError("a part of what lies afar is cut short") from None
        at += _PART.size
        name = data[at : at + length].decode()
        at += length
        region = region_of(number)
        if target > 1 or begin < region.offset or begin + size > region.offset + region.size:
            raise ValueError(f"a tensor lies outside of region {number}")
        sides[target][name] = region.span(begin - region.offset, size)
    if at != len(data):
        raise ValueError("what lies afar is cut short")
    return Elsewhere(*sides)
