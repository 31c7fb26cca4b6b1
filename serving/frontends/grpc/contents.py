"""Read typed tensor contents: one protobuf list of numbers or strings for each datatype.

Which list belongs to which datatype is said by the Open Inference Protocol; 8- and 16-bit
integers travel in 32-bit lists, and FP16 and BF16 have no list at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.errors import InvalidRequest
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.tensor import Array, DType, Tensor, element_count, shape_text

_FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_WIRE = {
    "INT8": np.dtype(np.int32),
    "INT16": np.dtype(np.int32),
    "UINT8": np.dtype(np.uint32),
    "UINT16": np.dtype(np.uint32),
}
_CHUNK = 1 << 14
"""Elements converted at a stretch: between chunks other threads may run (some 0.5 ms)."""


def read(
    contents: pb.InferTensorContents, dtype: DType, shape: tuple[int, ...], name: str, where: str
) -> Tensor:
    """Return the tensor that ``contents`` spells out (copied).

    Raises InvalidRequest when the datatype has no typed form, another list than the datatype's
    is filled, their number does not fit the shape, or one is out of the datatype's range.
    """
    field = _FIELDS.get(dtype.name)
    if field is None:
        raise InvalidRequest(
            f"{dtype.name} has no typed contents in this protocol",
            code="no_typed_contents",
            where=where,
            fix="send all inputs in raw_input_contents",
        )
    filled = [descriptor.name for descriptor, _ in contents.ListFields()]
    if filled and filled != [field]:
        raise InvalidRequest(
            f"the contents of {name!r} are in the wrong field",
            code="wrong_contents",
            where=where,
            expected=f"only {field} for {dtype.name}",
            given=", ".join(filled),
        )
    values = getattr(contents, field)
    count = element_count(shape)
    if len(values) != count:
        raise InvalidRequest(
            f"the number of elements of {name!r} does not match its shape",
            code="wrong_size",
            where=where,
            expected=f"{count} for {shape_text(shape)}",
            given=f"{len(values)} in {field}",
        )
    if dtype.is_bytes:
        return Tensor(name, dtype, shape, items=list(values))
    found = numbers_of(values, _WIRE.get(dtype.name, dtype.numpy), dtype, where)
    return Tensor(name, dtype, shape, found.reshape(shape))


def numbers_of(values: Any, wire: "np.dtype[Any] | None", dtype: DType, where: str) -> Array:
    """Return the numbers of a list that holds them as ``wire``; raises InvalidRequest."""
    numbers = np.empty(len(values), wire)
    for start in range(0, len(values), _CHUNK):
        numbers[start : start + _CHUNK] = np.array(values[start : start + _CHUNK], wire)
    if wire is dtype.numpy:
        return numbers
    bounds = np.iinfo(dtype.numpy)
    outside = (numbers < bounds.min) | (numbers > bounds.max)
    if outside.any():
        index = int(outside.argmax())
        raise InvalidRequest(
            f"a number is out of range for {dtype.name}",
            code="out_of_range",
            where=f"{where}[{index}]",
            expected=f"an integer from {bounds.min} to {bounds.max}",
            given=str(numbers[index]),
        )
    return numbers.astype(dtype.numpy)
