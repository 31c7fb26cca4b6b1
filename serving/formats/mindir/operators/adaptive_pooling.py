"""Pooling to a given size, in windows that may overlap and differ in length.

Of n points cut into m windows, window i begins at ``floor(i * n / m)`` and ends before
``ceil((i + 1) * n / m)``.

Where m divides n this is plain pooling. Else means are products with a matrix of shares, and
largest points are searched in windows of the same length, of which the shorter hold their last
point more than once; both are made while the model runs, so that lengths may vary.

Sources: ``mindspore.ops`` AdaptiveAvgPool2D, AdaptiveMaxPool2D, ... (docstrings of 2.0 and 2.10).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.pieces import counted, length_of, mean
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType, TupleType
from serving.formats.mindir.value import Tensor, Value
from serving.tensor import INT64

_AVERAGE = (
    "AdaptiveAvgPool1D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "AdaptiveAvgPool2DExt",
    "AdaptiveAvgPool3DExt",
)  # fmt: skip


@converts(*_AVERAGE, arguments="x output_size")
def adaptive_average_pool(op: Operator) -> Tensor:
    """The mean of each window; a size of -1 keeps the length."""
    x = op.tensor("x")
    sizes = _sizes(op)
    first = len(op.dims(x)) - len(sizes)
    lengths = op.dims(x)[first:]
    pairs = [(n, n if m == -1 else m) for n, m in zip(lengths, sizes, strict=True)]
    if first == 2 and all(n > 0 and n % m == 0 for n, m in pairs):
        window = [n // m for n, m in pairs]
        return op.emit("AveragePool", x, kernel_shape=window, strides=window)
    for axis, size in enumerate(sizes, first):
        if size not in (-1, op.dims(x)[axis]):
            x = _averaged(op, x, axis, size)
    return op.emit("Identity", x)


def _averaged(op: Operator, x: Tensor, axis: int, size: int) -> Tensor:
    """Return the means of one axis, as a product with each point's shares in each window."""
    dims = op.dims(x)
    if size == 1:
        return mean(op, x, [axis])
    places, real = Formula(op, INT64), Formula(op, x.dtype)
    edges = _edges(op, x, axis, size)
    point = counted(op, INT64, edges.length, (-1, 1))
    inside = places(
        "And",
        places("GreaterOrEqual", point, edges.begin),
        places("LessOrEqual", point, edges.last),
    )
    count = places("Add", places("Sub", edges.last, edges.begin), 1)
    shares = real("Div", op.cast(inside, x.dtype), op.cast(count, x.dtype))
    last = len(dims) - 1
    if axis == last:
        return _product(op, x, shares, size)
    order = [*(i for i in range(last + 1) if i != axis), axis]
    back = sorted(range(last + 1), key=order.__getitem__)
    turned = _turned(op, x, order)
    return _turned(op, _product(op, turned, shares, size), back)


def _product(op: Operator, x: Tensor, shares: Tensor, size: int) -> Tensor:
    return op.emit("MatMul", x, shares, type=TensorType(x.dtype, (*op.dims(x)[:-1], size)))


def _turned(op: Operator, x: Tensor, order: Sequence[int]) -> Tensor:
    stated = TensorType(x.dtype, tuple(op.dims(x)[i] for i in order))
    return op.emit("Transpose", x, type=stated, perm=list(order))


@converts("AdaptiveMaxPool1D", "AdaptiveMaxPool2D", arguments="x output_size")
def adaptive_max_pool(op: Operator) -> Value:
    """The largest of each window, and its place counted row by row; the first of equals.

    The points of all windows are gathered and brought together in a last axis.
    """
    x = op.tensor("x")
    paired = isinstance(op.node.type, TupleType)
    sizes = _sizes(op)
    first = len(op.dims(x)) - len(sizes)
    lengths = op.dims(x)[first:]
    if min(lengths) < 1:
        op.refuse("pools over lengths that vary")
    sizes = tuple(n if m == -1 else m for n, m in zip(lengths, sizes, strict=True))
    edges = [_edges(op, x, first + i, m) for i, m in enumerate(sizes)]
    reach = [_longest(n, m) for n, m in zip(lengths, sizes, strict=True)]
    for i, (edge, count) in enumerate(zip(edges, reach, strict=True)):
        # The axes before this one have become two each: windows, and points within.
        x = op.emit(
            "Gather", x, _points(op, edge, count), type=TensorType(x.dtype, None),
            axis=first + 2 * i,
        )  # fmt: skip
    x = _points_last(op, x, first, sizes)
    stated = op.outputs[0] if paired else op.output
    largest = op.emit("ReduceMax", x, type=stated, axes=[-1], keepdims=0)
    if not paired:
        return largest
    at = op.emit("ArgMax", x, type=TensorType(INT64, stated.shape), axis=-1, keepdims=0)
    return largest, op.cast(_place(op, at, edges, reach, lengths), op.outputs[1].dtype)


@dataclass(frozen=True)
class _Edges:
    """The first and the last point of each window of an axis, and the number of its points."""

    begin: Tensor
    last: Tensor
    length: Tensor


def _edges(op: Operator, x: Tensor, axis: int, size: int) -> _Edges:
    places = Formula(op, INT64)
    points = length_of(op, x, axis)
    start = places("Mul", counted(op, INT64, size), points)
    end = places("Add", places("Add", start, points), size - 1)
    last = places("Sub", places("Div", end, size), 1)
    return _Edges(places("Div", start, size), last, points)


def _longest(length: int, size: int) -> int:
    """Return a number of points that no window has more of."""
    return length // size + (2 if length % size else 0)


def _points(op: Operator, edges: _Edges, count: int) -> Tensor:
    """Return the points of each window (a row), the last once more where it is shorter."""
    places = Formula(op, INT64)
    column = op.constant(np.array([-1, 1]))
    windows = op.dims(edges.begin)[0]
    stated = TensorType(INT64, (windows, 1))
    begin, last = (op.emit("Reshape", t, column, type=stated) for t in (edges.begin, edges.last))
    return places("Min", places("Add", begin, counted(op, INT64, count)), last)


def _points_last(op: Operator, x: Tensor, first: int, sizes: Sequence[int]) -> Tensor:
    """Return (..., windows, points, windows, points) as (..., windows, windows, points)."""
    count = len(sizes)
    order = [*range(first), *(first + 2 * i for i in range(count))]
    order += [first + 2 * i + 1 for i in range(count)]
    turned = op.emit("Transpose", x, type=TensorType(x.dtype, None), perm=order)
    shape = op.constant(np.array([*(0 for _ in range(first)), *sizes, -1], np.int64))
    return op.emit("Reshape", turned, shape, type=TensorType(x.dtype, None))


def _place(
    op: Operator, at: Tensor, edges: Sequence[_Edges], reach: Sequence[int], lengths: Sequence[int]
) -> Tensor:
    """Return places within the input for places within windows."""
    places = Formula(op, INT64)
    found: Tensor | None = None
    for i in reversed(range(len(edges))):
        within = places("Mod", at, reach[i]) if i else at
        at = places("Div", at, reach[i]) if i else at
        upright = op.constant(np.array([-1, *(1 for _ in edges[i + 1 :])], np.int64))
        stated = TensorType(INT64, (op.dims(edges[i].begin)[0], *(1 for _ in edges[i + 1 :])))
        begin, last = (
            op.emit("Reshape", t, upright, type=stated) for t in (edges[i].begin, edges[i].last)
        )
        along = places("Min", places("Add", begin, within), last)
        below = int(np.prod(lengths[i + 1 :]))
        part = places("Mul", along, below) if below > 1 else along
        found = part if found is None else places("Add", part, found)
    assert found is not None
    return found


def _sizes(op: Operator) -> tuple[int, ...]:
    """Return the size asked for of each axis."""
    axes = next(n for n in (1, 2, 3) if f"{n}D" in op.node.operator)
    sizes = op.integers("output_size")
    sizes = sizes * axes if len(sizes) == 1 else sizes
    if len(sizes) != axes or any(n < 1 and n != -1 for n in sizes):
        op.refuse("pools to a size that is not one number for each axis")
    return sizes
