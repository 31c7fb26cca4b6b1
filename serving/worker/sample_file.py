"""Reads a body of ``POST /predict`` from a file into rows, for warming and proving a model.

Only what a file of one's own needs: a mistake in it is told, not corrected. A value is a number, a
string, a boolean, nested lists of them, or ``{"b64": ..., "shape": [...]}`` with raw little-endian
elements (for strings: the one string).
"""

from __future__ import annotations

import base64
import json
from typing import Any, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from serving.tensor import (
    BF16,
    Array,
    Signature,
    Tensor,
    TensorSpec,
    element_count,
    float32_to_bf16,
    shape_text,
)

Row = List[Tensor]
"""The inputs of one row in the order of the signature, without their batch axes."""


def read(path: str, signature: Signature, axes: Sequence[Optional[int]]) -> List[Row]:
    """Return the rows in a file; ``axes`` are the inputs' batch axes, None for a shared one.

    Raises OSError, and ValueError for what does not fit the signature.
    """
    with open(path, encoding="utf-8") as file:
        body = json.load(file)
    if not isinstance(body, dict) or ("instances" in body) == ("inputs" in body):
        raise ValueError("it is no body of POST /predict")
    if "instances" in body:
        return [_instance(given, signature, axes) for given in body["instances"]]
    whole = _named(body["inputs"], signature, [spec.shape for spec in signature.inputs])
    return _rows(whole, axes)


def _instance(given: Any, signature: Signature, axes: Sequence[Optional[int]]) -> Row:
    shapes = [_row_dims(spec, axis) for spec, axis in zip(signature.inputs, axes)]
    if not isinstance(given, dict) or (len(signature.inputs) == 1 and "b64" in given):
        if len(signature.inputs) != 1:
            raise ValueError("an instance of several inputs must name them")
        given = {signature.inputs[0].name: given}
    return _named(given, signature, shapes)


def _named(
    given: Mapping[str, Any], signature: Signature, shapes: Sequence[Optional[Tuple[Any, ...]]]
) -> Row:
    missing = [spec.name for spec in signature.inputs if spec.name not in given]
    if missing:
        raise ValueError(f"input {missing[0]!r} is missing")
    return [_tensor(spec, given[spec.name], dims) for spec, dims in zip(signature.inputs, shapes)]


def _tensor(spec: TensorSpec, value: Any, dims: Optional[Tuple[Any, ...]]) -> Tensor:
    if isinstance(value, dict):
        data = base64.b64decode(value["b64"], validate=True)
        if spec.dtype.is_bytes:
            return Tensor(spec.name, spec.dtype, (), items=[data])
        assert spec.dtype.numpy is not None
        array = np.frombuffer(data, spec.dtype.numpy)
        shape = value.get("shape")
        return _number_tensor(spec, array if shape is None else array.reshape(shape), dims)
    if spec.dtype.is_bytes:
        grid = np.array(value, dtype=object)
        items = [str(item).encode() for item in grid.reshape(-1).tolist()]
        return Tensor(spec.name, spec.dtype, grid.shape, items=items)
    array = np.array(value)
    if array.dtype == object or array.dtype.kind not in "biuf":
        raise ValueError(f"input {spec.name!r} is no tensor of numbers")
    return _number_tensor(spec, _cast(spec, array), dims)


def _cast(spec: TensorSpec, array: Array) -> Array:
    if spec.dtype is BF16:
        return float32_to_bf16(array.astype(np.float32))
    assert spec.dtype.numpy is not None
    cast = array.astype(spec.dtype.numpy)
    if spec.dtype.numpy.kind in "iu" and not np.array_equal(cast, array):
        raise ValueError(f"input {spec.name!r} holds numbers that {spec.dtype.name} cannot")
    return cast


def _number_tensor(spec: TensorSpec, array: Array, dims: Optional[Tuple[Any, ...]]) -> Tensor:
    """Give a value the shape that is declared, where that says the size of every axis."""
    if dims is not None and array.ndim != len(dims):
        fixed = all(isinstance(dim, int) and dim >= 0 for dim in dims)
        if not fixed or element_count(dims) != array.size:
            given, wanted = list(array.shape), shape_text(dims)
            raise ValueError(f"input {spec.name!r} has shape {given} instead of {wanted}")
        array = array.reshape(dims)
    sizes = zip(array.shape, array.shape if dims is None else dims)
    if any(isinstance(dim, int) and 0 <= dim != size for size, dim in sizes):
        wanted = shape_text(dims or ())
        raise ValueError(f"input {spec.name!r} has shape {list(array.shape)} instead of {wanted}")
    contiguous = np.ascontiguousarray(array).reshape(array.shape)  # it knows no scalars
    return Tensor(spec.name, spec.dtype, array.shape, contiguous)


def _row_dims(spec: TensorSpec, axis: Optional[int]) -> Optional[Tuple[Any, ...]]:
    if spec.shape is None or axis is None:
        return spec.shape
    return spec.shape[:axis] + spec.shape[axis + 1 :]


def _rows(whole: Row, axes: Sequence[Optional[int]]) -> List[Row]:
    counts = {t.shape[axis] for t, axis in zip(whole, axes) if axis is not None}
    if not counts:
        return [whole]
    if len(counts) > 1:
        raise ValueError("the inputs bring different numbers of rows")
    return [
        [t if axis is None else _row(t, axis, n) for t, axis in zip(whole, axes)]
        for n in range(counts.pop())
    ]


def _row(tensor: Tensor, axis: int, number: int) -> Tensor:
    shape = tensor.shape[:axis] + tensor.shape[axis + 1 :]
    if tensor.array is not None:
        array = np.ascontiguousarray(np.take(tensor.array, number, axis=axis))
        return Tensor(tensor.name, tensor.dtype, shape, array.reshape(shape))
    grid = np.array(tensor.items, dtype=object).reshape(tensor.shape)
    items = np.take(grid, number, axis=axis).reshape(-1).tolist()
    return Tensor(tensor.name, tensor.dtype, shape, items=items)
