"""The elements of tensors as bytes: within a message, or in a segment.

Numbers lie as they are. Strings are their lengths, u32 each, and then their bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import numpy as np

from serving.channel.layout import align
from serving.channel.segment import Segment
from serving.gateway.looks import Spec
from serving.gateway.messages import Place
from serving.tensor import TEXT, Array, Tensor, element_count

INLINE_BYTES = 8 * 1024
"""Tensors of a message that are larger together lie in a segment."""
GATHERED_BYTES = 256 * 1024
"""Rows that were gathered travel in the message up to here; larger ones are claimed one by one."""


def size_of(tensor: Tensor) -> int:
    """Return the bytes that a tensor takes."""
    if tensor.array is not None:
        return int(tensor.array.nbytes)
    return 4 * len(tensor.items or ()) + tensor.nbytes


def bytes_of(tensor: Tensor) -> bytes:
    """Return a copy of a tensor's elements."""
    if tensor.array is not None:
        return tensor.array.tobytes()
    items = tensor.items or ()
    return struct.pack(f"<{len(items)}I", *map(len, items)) + b"".join(items)


def inline(tensors: Sequence[Tensor]) -> tuple[tuple[Place, ...], bytes]:
    """Return the tensors' places in a message's data, and the data."""
    if len(tensors) == 1:
        data = bytes_of(tensors[0])
        return (Place(0, 0, len(data)),), data
    places, parts, at = [], [], 0
    for tensor in tensors:
        data = bytes_of(tensor)
        places.append(Place(0, at, len(data)))
        parts.append(data)
        at += len(data)
    return tuple(places), b"".join(parts)


Locate = Callable[[int, int], tuple[Segment, int] | None]
"""Says in which segment so many bytes at an address lie, and where."""


def placed(tensors: Sequence[Tensor], locate: Locate) -> tuple[tuple[Place, ...], bytes] | None:
    """Return where tensors lie in segments already; small ones travel along.

    None where a large one lies elsewhere, or the small ones are too many.
    """
    places: list[Place] = []
    parts: list[bytes] = []
    at = 0
    for tensor in tensors:
        place = place_of(tensor, locate)
        if place is None:
            size = size_of(tensor)
            if at + size > INLINE_BYTES:
                return None
            place = Place(0, at, size)
            parts.append(bytes_of(tensor))
            at += size
        places.append(place)
    return tuple(places), b"".join(parts)


def place_of(tensor: Tensor, locate: Locate) -> Place | None:
    """Return where a tensor lies in a segment; None for small ones, strings, other memory."""
    array = tensor.array
    if array is None or array.nbytes <= INLINE_BYTES or not array.flags.c_contiguous:
        return None
    found = locate(array.__array_interface__["data"][0], array.nbytes)
    return None if found is None else Place(found[0].id, found[1], array.nbytes)


def room_for(tensors: Sequence[Tensor]) -> int:
    """Return the bytes of a segment that ``write`` needs."""
    return sum([align(size_of(tensor)) for tensor in tensors])


def write(memory: Array, segment: int, tensors: Sequence[Tensor]) -> tuple[Place, ...]:
    """Copy tensors into a segment (flat uint8) that has room for them; return their places."""
    places, at = [], 0
    for tensor in tensors:
        size = size_of(tensor)
        array = tensor.array
        if size and array is not None:
            target = memory[at : at + size].view(array.dtype).reshape(array.shape)
            np.copyto(target, array)
        elif size:
            memory[at : at + size] = np.frombuffer(bytes_of(tensor), np.uint8)
        places.append(Place(segment, at, size))
        at += align(size)
    return tuple(places)


def read(spec: Spec, memory: bytes | memoryview | Array, offset: int, nbytes: int) -> Tensor:
    """Return a tensor over memory; numbers are a view of it. Raises ValueError."""
    count = element_count(spec.shape)
    if min(spec.shape, default=0) < 0 or offset + nbytes > len(memory):
        raise ValueError("a tensor lies outside its memory")
    if spec.dtype.is_bytes:
        items = _strings(bytes(memory[offset : offset + nbytes]), count)
        if spec.dtype is TEXT:
            for item in items:
                item.decode()  # a UnicodeDecodeError is a ValueError
        return Tensor(spec.name, spec.dtype, spec.shape, items=items)
    if nbytes != count * spec.dtype.itemsize:
        raise ValueError("a tensor does not have the size of its shape")
    array: Array = np.frombuffer(memory, spec.dtype.numpy, count, offset) if count else _EMPTY
    if not count:
        return Tensor(spec.name, spec.dtype, spec.shape, np.empty(spec.shape, spec.dtype.numpy))
    return Tensor(spec.name, spec.dtype, spec.shape, array.reshape(spec.shape))


_EMPTY: Array = np.empty(0, np.uint8)


def _strings(data: bytes, count: int) -> list[bytes]:
    if 4 * count > len(data):
        raise ValueError("fewer strings than the shape says")
    lengths = struct.unpack_from(f"<{count}I", data)
    if 4 * count + sum(lengths) != len(data):
        raise ValueError("strings of other lengths than there are bytes")
    items, at = [], 4 * count
    for length in lengths:
        items.append(data[at : at + length])
        at += length
    return items
