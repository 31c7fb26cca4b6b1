"""Read and write tensors as raw little-endian bytes, the layout of V2's binary data.

Elements stand in C order without padding; BOOL is one byte, 0 or 1; BYTES elements follow
``serving.frontends.bytes_tensor``.
"""

from __future__ import annotations

import numpy as np

from serving.errors import InvalidRequest
from serving.frontends import bytes_tensor
from serving.frontends.value import Value
from serving.tensor import BOOL, DType, Tensor, element_count, shape_text


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
    """Return a tensor's bytes; numbers are not copied: the view lives as long as the tensor."""
    if tensor.array is None:
        return bytes_tensor.pack(tensor.items or ())
    array = np.ascontiguousarray(tensor.array)
    return array.reshape(-1).view(np.uint8).data
