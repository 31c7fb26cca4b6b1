"""A run's rows: as arrays over segments, and in the order that segments have. Python 3.9 syntax."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np

from serving.channel import strings
from serving.channel.layout import STRING_ENTRY_BYTES, Field
from serving.channel.messages import Run
from serving.channel.segment import Segment, view
from serving.tensor import Array, Tensor, element_count


def rows_of(segment: Segment, field: Field, run: Run) -> Array:
    """Return the run's rows of a field as an array over the segment, rows first."""
    shape: Tuple[int, ...]
    if field.axis is None:
        start, shape = field.offset, field.row_shape
    else:
        start, shape = field.offset + run.first * field.row_bytes, (run.rows, *field.row_shape)
    return view(segment, field.dtype, start, shape)


def string_rows(segment: Segment, name: str, field: Field, run: Run) -> Tensor:
    """Return the run's rows of a field of strings, in the engine's shape."""
    rows = 1 if field.axis is None else run.rows
    start = field.offset + (0 if field.axis is None else run.first * field.row_bytes)
    items = strings.read(segment.bytes, start, rows * element_count(field.row_shape))
    if field.axis:
        shape = (rows, *field.row_shape)
        moved = np.moveaxis(np.array(items, dtype=object).reshape(shape), 0, field.axis)
        items = moved.reshape(-1).tolist()
    return Tensor(name, field.dtype, field.engine_shape(rows), items=items)


def rows_first(tensor: Tensor, axis: Optional[int]) -> Tensor:
    """Return a tensor with its rows on the first axis; the engine has them on ``axis``."""
    if not axis or len(tensor.shape) <= axis:
        return tensor
    shape = (tensor.shape[axis], *tensor.shape[:axis], *tensor.shape[axis + 1 :])
    if tensor.array is not None:
        return Tensor(tensor.name, tensor.dtype, shape, np.moveaxis(tensor.array, axis, 0))
    grid = np.array(tensor.items, dtype=object).reshape(tensor.shape)
    items = np.moveaxis(grid, axis, 0).reshape(-1).tolist()
    return Tensor(tensor.name, tensor.dtype, shape, items=items)


def packed_bytes(tensor: Tensor) -> int:
    """Return how much of a segment an output takes when it is packed into it."""
    if tensor.array is not None:
        return int(tensor.array.nbytes)
    items = tensor.items or ()
    return STRING_ENTRY_BYTES * len(items) + sum(map(len, items))
