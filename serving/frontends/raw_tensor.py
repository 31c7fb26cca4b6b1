"""Read and write tensors as raw little-endian bytes, the layout of V2's binary data.

Elements stand in C order without padding; BOOL is one byte, 0 or 1; BYTES elements follow
``serving.frontends.bytes_tensor``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from serving.errors import InvalidRequest
from serving.frontends import bytes_tensor
from serving.frontends.value import Value
from serving.tensor import BOOL, DType, Tensor, element_count, shape_text

_COPIED_BYTES = 4096
"""A copy of so much costs less than what a view of it is made of."""


class Look(NamedTuple):
    """A tensor but for its values, to read more such tensors with."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    nbytes: int

    @staticmethod
    def of(tensor: Tensor) -> Look:
        """Return the look of a tensor; ``nbytes`` are 0 for strings, which have no fixed size."""
        nbytes = 0 if tensor.array is None else tensor.nbytes
        return Look(tensor.name, tensor.dtype, tensor.shape, nbytes)

    def read(self, data: memoryview) -> Tensor:
        """Return a view of ``data`` as such an input; raises InvalidRequest, as ``read`` does."""
        name, dtype, shape, nbytes = self
        if nbytes and len(data) == nbytes and dtype is not BOOL:
            return Tensor(name, dtype, shape, np.frombuffer(data, dtype.numpy).reshape(shape))
        value = read(data, dtype, shape, name, f"inputs.{name}")
        return Tensor(name, dtype, shape, value.array, value.items)


def read(data: memoryview, dtype: DType, shape: tuple[int, ...], name: str, where: str) -> Value:
    """Return a view of ``data`` as a tensor (BYTES elements are copied out).

    Raises InvalidRequest when the bytes are not exactly what dtype and shape take, or when a
    BOOL is neither 0 nor 1.
    """
    count = element_count(shape)
    if dtype.numpy is None:
        return Value(shape, None, bytes_tensor.unpack(data, count, name))
    if count * dtype.itemsize != len(data):
        raise InvalidRequest(
            "the number of bytes does not match the shape",
            code="wrong_size",
            where=where,
            expected=f"{count * dtype.itemsize} bytes for {dtype.name}{shape_text(shape)}",
            given=f"{len(data)} bytes",
        )
    if dtype is BOOL and np.frombuffer(data, np.uint8).max(initial=0) > 1:
        raise InvalidRequest(
            "a BOOL is neither 0 nor 1", code="bad_element", where=where, expected="bytes 0 and 1"
        )
    return Value(shape, np.frombuffer(data, dtype.numpy).reshape(shape))


def write(tensor: Tensor) -> bytes | memoryview:
    """Return a tensor's bytes.

    Many numbers are not copied: the view of them lives as long as the tensor.
    """
    array = tensor.array
    if array is None:
        return bytes_tensor.pack(tensor.items or ())
    if array.nbytes <= _COPIED_BYTES:
        return array.tobytes()
    array = np.ascontiguousarray(array)
    return array.reshape(-1).view(np.uint8).data
