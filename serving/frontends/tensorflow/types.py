"""TensorFlow's data types: their names and numbers, and what they are here.

Source: ``DataType`` in tensorflow/core/framework/types.proto. Complex, quantised and resource
types are not among them: no model that is served here takes or gives such.
"""

from __future__ import annotations

from collections.abc import Mapping

from serving import tensor
from serving.tensor import DType

_TYPES = (
    ("DT_FLOAT", 1, tensor.FP32),
    ("DT_DOUBLE", 2, tensor.FP64),
    ("DT_INT32", 3, tensor.INT32),
    ("DT_UINT8", 4, tensor.UINT8),
    ("DT_INT16", 5, tensor.INT16),
    ("DT_INT8", 6, tensor.INT8),
    ("DT_STRING", 7, tensor.BYTES),
    ("DT_INT64", 9, tensor.INT64),
    ("DT_BOOL", 10, tensor.BOOL),
    ("DT_BFLOAT16", 14, tensor.BF16),
    ("DT_UINT16", 17, tensor.UINT16),
    ("DT_HALF", 19, tensor.FP16),
    ("DT_UINT32", 22, tensor.UINT32),
    ("DT_UINT64", 23, tensor.UINT64),
)
BYTES_SUFFIX = "_bytes"
"""Strings whose tensor's name ends so are bytes and no text: a custom of TensorFlow Serving."""

INVALID = "DT_INVALID"
"""What stands for a type that is not known beforehand."""

BY_NUMBER: Mapping[int, DType] = {number: dtype for _, number, dtype in _TYPES}
NUMBERS: Mapping[str, int] = {dtype.name: number for _, number, dtype in _TYPES} | {
    tensor.TEXT.name: 7  # text is a kind of bytes that only methods tell apart
}
"""Numbers by the names that the types have here."""

_NAMES = {number: name for name, number, _ in _TYPES}


def name_of(dtype: DType) -> str:
    """Return TensorFlow's name of a type; ``INVALID`` for a value of any type."""
    number = NUMBERS.get(dtype.name)
    return INVALID if number is None else _NAMES[number]
