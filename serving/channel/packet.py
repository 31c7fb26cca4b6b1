"""A list of instances in a segment: for each one its tensors, or the text of its error.

What stages take and give lies in shared memory in this form, one copy from wherever it was::

    +---------+------+------+-----+---------+---------------+---------------+
    | head    | one entry for each instance | data of the   | data of the   | ...
    | 8 bytes | (values or an error text)   | first tensor  | second tensor |
    +---------+-----------------------------+---------------+---------------+
    0                                       64-byte borders

    head      instances u32, bytes of all entries u32
    entry     tensors u32, a record for each; or u32 2**32-1, u32 length, UTF-8 text of the error
    record    dtype u8, rank u8, offset u64, nbytes u64, then rank dims of i64

The data of strings are entries of (offset, length) and the bytes they point to, as in ``strings``.
Whoever reads trusts nothing of this: the other process may be broken, and may write meanwhile.

Python 3.9 syntax.
"""

from __future__ import annotations

import struct
from typing import List, Sequence, Tuple, Union

import numpy as np

from serving.channel import strings
from serving.channel.layout import ALIGNMENT, STRING_ENTRY_BYTES, align
from serving.channel.messages import cut
from serving.tensor import BY_CODE, TEXT, Array, DType, Tensor, element_count

Values = Tuple[Tensor, ...]
Outcome = Union[Values, str]
"""The tensors of an instance, or why there are none."""

MOST_INSTANCES = 1 << 16
MOST_TENSORS = 1 << 20
"""More than these in one packet are refused: each costs an object, whatever its size."""

_HEAD = struct.Struct("<II")
_COUNT = struct.Struct("<I")
_RECORD = struct.Struct("<BBQQ")
_ERROR = 2**32 - 1
_MOST_DIMS = 32


def size_of(instances: Sequence[Outcome]) -> int:
    """Return the bytes that ``write`` needs."""
    size = align(_HEAD.size + sum(_entry_bytes(instance) for instance in instances))
    for instance in instances:
        if not isinstance(instance, str):
            size += sum([align(_data_bytes(tensor)) for tensor in instance])
    return size


def write(memory: Array, instances: Sequence[Outcome]) -> None:
    """Write instances to the begin of ``memory`` (flat uint8); each tensor is copied once."""
    entries: List[bytes] = []
    at = align(_HEAD.size + sum(_entry_bytes(instance) for instance in instances))
    for instance in instances:
        if isinstance(instance, str):
            text = _error_text(instance)
            entries += [_HEAD.pack(_ERROR, len(text)), text]
            continue
        entries.append(_COUNT.pack(len(instance)))
        for tensor in instance:
            size = _data_bytes(tensor)
            entries.append(_record(tensor, at, size))
            _write_data(memory, at, tensor)
            at += align(size)
    body = b"".join(entries)
    head = _HEAD.pack(len(instances), len(body)) + body
    memory[: len(head)] = np.frombuffer(head, np.uint8)


def read(memory: Array) -> List[Outcome]:
    """Return what another process wrote: arrays are views of ``memory``, strings are copies.

    Raises ValueError for all that does not hold together; nothing outside of ``memory`` is ever
    looked at, and no more is allocated than its size suggests.
    """
    try:
        return _read(memory)
    except (struct.error, LookupError, OverflowError, TypeError, MemoryError) as error:
        raise ValueError(f"a packet that cannot be read: {error}") from error


def _read(memory: Array) -> List[Outcome]:
    count, length = _HEAD.unpack(bytes(memory[: _HEAD.size]))
    if count > MOST_INSTANCES or _HEAD.size + length > memory.size:
        raise ValueError("a packet's head promises more than there can be")
    # A copy: from here on the other process cannot change what has been checked.
    entries = bytes(memory[_HEAD.size : _HEAD.size + length])
    instances: List[Outcome] = []
    at = tensors = total = 0
    for _ in range(count):
        (number,) = _COUNT.unpack_from(entries, at)
        at += _COUNT.size
        if number == _ERROR:
            (size,) = _COUNT.unpack_from(entries, at)
            at += _COUNT.size + size
            if at > length:
                raise ValueError("an error text points outside its packet")
            instances.append(entries[at - size : at].decode("utf-8", "replace"))
            continue
        tensors += number
        if tensors > MOST_TENSORS:
            raise ValueError("a packet holds too many tensors")
        values = []
        for _ in range(number):
            tensor, at, nbytes = _read_tensor(memory, entries, at)
            total += nbytes
            if total > memory.size:
                raise ValueError("tensors of a packet overlap")
            values.append(tensor)
        instances.append(tuple(values))
    return instances


def _read_tensor(memory: Array, entries: bytes, at: int) -> Tuple[Tensor, int, int]:
    code, rank, offset, nbytes = _RECORD.unpack_from(entries, at)
    at += _RECORD.size
    if rank > _MOST_DIMS:
        raise ValueError(f"a tensor with {rank} axes")
    shape = struct.unpack_from(f"<{rank}q", entries, at)
    dtype = BY_CODE[code]
    if min(shape, default=0) < 0 or offset % ALIGNMENT or offset + nbytes > memory.size:
        raise ValueError("a tensor lies outside its packet")
    data = memory[offset : offset + nbytes]
    count = element_count(shape)
    at += 8 * rank
    if dtype.is_bytes:
        return Tensor("", dtype, shape, items=_read_strings(data, count, dtype)), at, nbytes
    if dtype.numpy is None or nbytes != count * dtype.itemsize:
        raise ValueError("a tensor does not have the size of its shape")
    return Tensor("", dtype, shape, data.view(dtype.numpy).reshape(shape)), at, nbytes


def _read_strings(data: Array, count: int, dtype: DType) -> List[bytes]:
    """Read strings of ``data``, whose entries count from its own begin."""
    if count * STRING_ENTRY_BYTES > data.size:
        raise ValueError("fewer strings than the shape says")
    heads = data[: count * STRING_ENTRY_BYTES].copy()
    offsets, lengths = heads.view("<u8").reshape(count, 2).T
    # Strings that share their bytes would be copied apart: a small packet could fill the memory.
    size = np.uint64(data.size)
    if (lengths > size).any() or (offsets > size - lengths).any() or lengths.sum() > size:
        raise ValueError("a string points outside its packet")
    text = data.tobytes()
    items = [text[start : start + n] for start, n in zip(offsets.tolist(), lengths.tolist())]
    if dtype is TEXT:
        for item in items:
            item.decode()  # a UnicodeDecodeError is a ValueError
    return items


def _write_data(memory: Array, at: int, tensor: Tensor) -> None:
    if tensor.array is None:
        items = tensor.items or ()
        data = memory[at : at + _data_bytes(tensor)]
        strings.write(data, 0, STRING_ENTRY_BYTES * len(items), items)
    elif tensor.array.nbytes:
        target = memory[at : at + tensor.array.nbytes].view(tensor.array.dtype)
        np.copyto(target.reshape(tensor.array.shape), tensor.array)


def _record(tensor: Tensor, offset: int, nbytes: int) -> bytes:
    rank = len(tensor.shape)
    head = _RECORD.pack(tensor.dtype.code, rank, offset, nbytes)
    return head + struct.pack(f"<{rank}q", *tensor.shape)


def _entry_bytes(instance: Outcome) -> int:
    if isinstance(instance, str):
        return _HEAD.size + len(_error_text(instance))
    return _COUNT.size + sum([_RECORD.size + 8 * len(tensor.shape) for tensor in instance])


def _data_bytes(tensor: Tensor) -> int:
    if tensor.array is not None:
        return int(tensor.array.nbytes)
    items = tensor.items or ()
    return STRING_ENTRY_BYTES * len(items) + sum(map(len, items))


def _error_text(text: str) -> bytes:
    return cut(text).encode("utf-8", "replace")
