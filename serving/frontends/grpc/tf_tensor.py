"""Read and write TensorFlow's tensor messages; what lies there as in memory is not copied.

Source: ``TensorProto`` in tensorflow/core/framework/tensor.proto, and ``Tensor::FromProto`` for
lists that are too short: the last element is repeated, nothing at all is zeros.

A tensor is written as TensorFlow Serving writes it, into the list of its type, as clients read
``float_val`` and the like without looking for ``tensor_content``. Floats lie in their list as in
memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from serving import protobuf
from serving.errors import InvalidRequest, TooLarge
from serving.frontends import raw_tensor, shape_limits
from serving.frontends.grpc import contents
from serving.frontends.grpc.stubs import tensorflow_pb2 as pb
from serving.frontends.tensorflow import types
from serving.protobuf import Buffer, Malformed
from serving.tensor import (
    BF16,
    BOOL,
    FP16,
    FP32,
    FP64,
    INT32,
    UINT16,
    Array,
    DType,
    Tensor,
    element_count,
    shape_text,
)

_CONTENT, _FLOATS, _DOUBLES = 4, 5, 6
_LISTS = {
    "FP32": "float_val", "FP64": "double_val", "BYTES": "string_val", "INT64": "int64_val",
    "UINT32": "uint32_val", "UINT64": "uint64_val", "BOOL": "bool_val",
    "FP16": "half_val", "BF16": "half_val",
    "INT8": "int_val", "INT16": "int_val", "INT32": "int_val", "UINT8": "int_val",
    "UINT16": "int_val",
}  # fmt: skip
_LIST_NUMBERS = {
    dtype: pb.TensorProto.DESCRIPTOR.fields_by_name[name].number for dtype, name in _LISTS.items()
}
_ABOUT = ("dtype", "tensor_shape", "version_number")
"""Fields that hold no elements."""

_AS_IN_MEMORY = {_FLOATS: FP32, _DOUBLES: FP64}
_FEW_FIELDS = 8
"""Fields that are looked through for the elements: writers put them behind type and shape."""

_DELIMITED = 2
_CHUNK = 1 << 14
"""Integers written at a stretch: each takes 20 bytes for a moment."""
_STRING_COST = 8
"""Bytes that a repeated string takes beside its own."""


class Sealed(NamedTuple):
    """An input's name and message as they came.

    ``data`` is what the last field, whose number is ``field``, holds, where it is one whose
    elements lie as in memory; ``head`` is the message before it. Else ``data`` is None.
    """

    name: str
    message: memoryview
    head: memoryview
    field: int = 0
    data: memoryview | None = None


class Allowance:
    """How many bytes a request's tensors may still come to beyond what was sent."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._left = limit_bytes

    def take(self, nbytes: int, where: str) -> None:
        """Raise TooLarge once all that was taken is over the limit."""
        self._left -= nbytes
        if self._left < 0:
            raise TooLarge(
                "the tensors come to too many bytes with their last elements repeated",
                code="unpacked_too_large",
                where=where,
                expected=f"at most {self._limit_bytes} bytes",
                limit=self._limit_bytes,
            )


def seal(name: str, message: memoryview) -> Sealed:
    """Find where an input's elements are. Raises Malformed."""
    start, size = 0, len(message)
    for tag, begin, end in islice(protobuf.spans(message, 0, size), _FEW_FIELDS):
        field, kind = tag >> 3, tag & 7
        if kind == _DELIMITED and field in (_CONTENT, *_AS_IN_MEMORY) and end == size:
            return Sealed(name, message, message[:start], field, message[begin:end])
        start = end
    return Sealed(name, message, message)


def read(sealed: Sealed, allowance: Allowance) -> Tensor:
    """Return the tensor of an input; elements that lie as in memory are a view of the message.

    Raises Malformed, InvalidRequest for what is no tensor, and TooLarge.
    """
    message, field, data = _opened(sealed)
    where = f"inputs.{sealed.name}"
    dtype = _dtype(message.dtype, where)
    shape = _shape(message.tensor_shape, where)
    filled = [d.name for d, _ in message.ListFields() if d.name not in _ABOUT]
    if data is not None:
        filled.append(pb.TensorProto.DESCRIPTOR.fields_by_number[field].name)
    known = _LISTS[dtype.name]
    if len(filled) > 1 or (filled and filled[0] not in (known, "tensor_content")):
        raise InvalidRequest(
            f"the elements of {sealed.name!r} are in the wrong field",
            code="wrong_field",
            where=where,
            expected=f"{known} or tensor_content for {types.name_of(dtype)}",
            given=", ".join(filled),
        )
    if filled == ["tensor_content"]:
        raw = memoryview(message.tensor_content) if data is None else data
        return _of_content(sealed.name, dtype, shape, raw, where)
    if dtype.is_bytes:
        items = _filled_up(list(message.string_val), shape, allowance, where)
        return Tensor(sealed.name, dtype, shape, items=items)
    if data is None:
        numbers = _numbers(getattr(message, known), dtype, where)
    else:
        numbers = _as_in_memory(data, dtype)
    whole = _whole(numbers, dtype, shape, allowance, where)
    return Tensor(sealed.name, dtype, shape, whole.reshape(shape))


def _opened(sealed: Sealed) -> tuple[pb.TensorProto, int, memoryview | None]:
    """Return the message, and what was found of the elements that are not in it."""
    try:
        message = pb.TensorProto.FromString(sealed.head)
        if sealed.data and not any(d.name not in _ABOUT for d, _ in message.ListFields()):
            return message, sealed.field, sealed.data
        # More than one field of elements, or one in parts: protobuf puts it together.
        return pb.TensorProto.FromString(sealed.message), 0, None
    except DecodeError:
        raise Malformed from None


def _dtype(number: int, where: str) -> DType:
    dtype = types.BY_NUMBER.get(number)
    if dtype is not None:
        return dtype
    known = pb.DataType.values()
    raise InvalidRequest(
        "the tensor's type is not served here" if number else "the tensor has no type",
        code="unknown_dtype",
        where=f"{where}.dtype",
        expected="one of " + ", ".join(types.name_of(d) for d in types.BY_NUMBER.values()),
        given=pb.DataType.Name(number) if number in known else str(number),
    )


def _shape(given: pb.TensorShapeProto, where: str) -> tuple[int, ...]:
    if given.unknown_rank:
        raise InvalidRequest(
            "the tensor's shape is not known",
            code="bad_shape",
            where=f"{where}.tensor_shape",
            expected="the real size of each axis in dim",
            given="unknown_rank",
        )
    return shape_limits.checked([dim.size for dim in given.dim], where)


def _of_content(
    name: str, dtype: DType, shape: tuple[int, ...], data: memoryview, where: str
) -> Tensor:
    if dtype.is_bytes:
        return Tensor(name, dtype, shape, items=_strings(data, element_count(shape), where))
    return Tensor(name, dtype, shape, raw_tensor.read(data, dtype, shape, name, where).array)


def _strings(data: memoryview, count: int, where: str) -> list[bytes]:
    """Return strings that are their lengths, all of them first, and then the strings."""
    lengths: list[int] = []
    at = 0
    if count <= len(data):
        try:
            for _ in range(count):
                length, at = protobuf.varint(data, at)
                lengths.append(length)
        except Malformed:
            lengths = []
    if len(lengths) != count or at + sum(lengths) != len(data):
        raise InvalidRequest(
            "tensor_content does not hold the strings that the shape says",
            code="wrong_size",
            where=where,
            expected=f"the lengths of {count} strings, and then these",
            fix="put the strings into string_val",
        )
    items = []
    for length in lengths:
        items.append(bytes(data[at : at + length]))
        at += length
    return items


def _as_in_memory(data: memoryview, dtype: DType) -> Array:
    if len(data) % dtype.itemsize:
        raise Malformed
    return np.frombuffer(data, dtype.numpy)


def _numbers(values: Any, dtype: DType, where: str) -> Array:
    """Return the numbers of a list, copied."""
    if dtype is FP16 or dtype is BF16:
        patterns = contents.numbers_of(values, INT32.numpy, UINT16, where)
        return patterns.view(np.dtype(dtype.numpy))
    wire = INT32.numpy if _LISTS[dtype.name] == "int_val" else dtype.numpy
    return contents.numbers_of(values, wire, dtype, where)


def _whole(
    numbers: Array, dtype: DType, shape: tuple[int, ...], allowance: Allowance, where: str
) -> Array:
    """Return as many numbers as the shape has; a list that is too short goes on as it ends."""
    count = _checked_count(len(numbers), shape, where)
    if len(numbers) == count:
        return numbers
    allowance.take(count * dtype.itemsize, where)
    if not len(numbers):
        return np.zeros(count, dtype.numpy)
    whole = np.full(count, numbers[-1], dtype.numpy)
    whole[: len(numbers)] = numbers
    return whole


def _filled_up(
    items: list[bytes], shape: tuple[int, ...], allowance: Allowance, where: str
) -> list[bytes]:
    count = _checked_count(len(items), shape, where)
    missing = count - len(items)
    if missing:
        last = items[-1] if items else b""
        allowance.take(missing * (_STRING_COST + len(last)), where)
        items += [last] * missing
    return items


def _checked_count(given: int, shape: tuple[int, ...], where: str) -> int:
    """Return the number of elements that a shape has; raises InvalidRequest for more."""
    count = element_count(shape)
    if given > count:
        raise InvalidRequest(
            "the tensor has more elements than its shape",
            code="wrong_size",
            where=where,
            expected=f"{count} for {shape_text(shape)}",
            given=str(given),
        )
    return count


def write(tensor: Tensor) -> list[Buffer]:
    """Return the parts of a tensor's message; nothing in them outlives the tensor."""
    head = _head(types.NUMBERS[tensor.dtype.name], tensor.shape)
    if tensor.array is None:
        return [head, pb.TensorProto(string_val=tensor.items or ()).SerializeToString()]
    array = np.ascontiguousarray(tensor.array).reshape(-1)
    if not array.size:
        return [head]
    data: Buffer
    if tensor.dtype is FP32 or tensor.dtype is FP64 or tensor.dtype is BOOL:
        data = array.view(np.uint8).data
    else:
        halves = tensor.dtype is FP16 or tensor.dtype is BF16
        data = _varints(array.view(np.uint16) if halves else array)
    return [head, protobuf.prefix(_LIST_NUMBERS[tensor.dtype.name], len(data)), data]


def is_slow(tensors: Sequence[Tensor], heavy_bytes: int) -> bool:
    """Return whether more bytes than these are written number by number."""
    plain = (FP32, FP64, BOOL)
    return sum(t.nbytes for t in tensors if t.dtype not in plain) > heavy_bytes


@lru_cache(maxsize=1024)
def _head(number: int, shape: tuple[int, ...]) -> bytes:
    dims = [pb.TensorShapeProto.Dim(size=size) for size in shape]
    message = pb.TensorProto(dtype=number, tensor_shape=pb.TensorShapeProto(dim=dims))
    return bytes(message.SerializeToString())


def _varints(integers: Array) -> bytes:
    """Return integers in protobuf's variable length; negative ones take ten bytes, as there."""
    starts = range(0, len(integers), _CHUNK)
    return b"".join([_some_varints(integers[start : start + _CHUNK]) for start in starts])


def _some_varints(integers: Array) -> bytes:
    if integers.min() >= 0 and integers.max() < 0x80:
        return integers.astype(np.uint8).tobytes()
    kind = np.uint64 if integers.dtype.kind == "u" else np.int64
    left = integers.astype(kind).view(np.uint64)
    digits = np.empty((len(left), 10), np.uint8)
    used = np.zeros((len(left), 10), bool)
    for place in range(10):
        used[:, place] = (left != 0) | (place == 0)
        digits[:, place] = left & np.uint64(0x7F)
        left = left >> np.uint64(7)
        digits[:, place] |= np.where(left != 0, 0x80, 0).astype(np.uint8)
    return digits[used].tobytes()
