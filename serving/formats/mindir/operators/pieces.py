"""Small parts of conversions: counting, cutting a last axis, means."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import INT64, DType


def counted(
    op: Operator, dtype: DType, count: int | Tensor, shape: Sequence[int] = (-1,)
) -> Tensor:
    """Return 0, 1, ... below a count (an INT64 scalar if it is computed), in another shape."""
    length = -1 if isinstance(count, Tensor) else count
    stop = count if isinstance(count, Tensor) else op.constant(np.array(count, np.int64))
    start, step = (op.constant(np.array(n, np.int64)) for n in (0, 1))
    places = op.emit("Range", start, stop, step, type=TensorType(INT64, (length,)))
    if tuple(shape) != (-1,):
        target = tuple(length if n == -1 else n for n in shape)
        order = op.constant(np.array(shape, np.int64))
        places = op.emit("Reshape", places, order, type=TensorType(INT64, target))
    return op.cast(places, dtype)


def equal_parts(op: Operator, x: Tensor, parts: int = 2) -> tuple[Tensor, ...]:
    """Return parts of the last axis."""
    *front, length = op.dims(x)
    part = TensorType(x.dtype, (*front, length // parts))
    return op.emit_several("Split", x, types=[part] * parts, axis=-1)


def mean(op: Operator, x: Tensor, axes: Sequence[int]) -> Tensor:
    """Return the mean over axes, which stay with a length of 1."""
    dims = op.dims(x)
    over = {op.axis(a, len(dims)) for a in axes}
    shape = tuple(1 if i in over else n for i, n in enumerate(dims))
    return op.emit("ReduceMean", x, type=TensorType(x.dtype, shape), axes=sorted(over), keepdims=1)


def length_of(op: Operator, x: Tensor, axis: int) -> Tensor:
    """Return the length of an axis as an INT64 tensor without axes, computed if it varies."""
    length = op.dims(x)[axis]
    if length >= 0:
        return op.constant(np.array(length, np.int64))
    lengths = op.emit("Shape", x, type=TensorType(INT64, (len(op.dims(x)),)))
    place = op.constant(np.array(axis, np.int64))
    return op.emit("Gather", lengths, place, type=TensorType(INT64, ()), axis=0)
