"""Rows held against rows: their distances, and whether two tensors are the same.

Sources: the docstrings of ``mindspore.ops`` Cdist (2.0 to 2.10) and ``mindspore.mint`` equal (2.5
to 2.10).
"""

from __future__ import annotations

import math

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.views import numbers
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import BOOL, INT64

_TRUTH = TensorType(BOOL, None)


@converts("Cdist", arguments="x y p")
def distances(op: Operator) -> Tensor:
    """``sum(|x - y| ** p) ** (1 / p)`` of each row of x and each of y, and its limits."""
    f = Formula(op)
    order = op.number("p", 2.0)
    x, y = (
        op.emit("Unsqueeze", f.tensor(n), numbers(op, place), type=TensorType(f.dtype, None))
        for n, place in (("x", -2), ("y", -3))
    )
    apart = f("Sub", x, y)
    if order in (1, 2):
        return op.emit(f"ReduceL{order:.0f}", apart, axes=[-1], keepdims=0)
    size = f("Abs", apart)
    if math.isinf(order):
        return op.emit("ReduceMax", size, axes=[-1], keepdims=0)
    if order == 0:
        size = op.cast(op.cast(size, BOOL), f.dtype)
        return op.emit("ReduceSum", size, numbers(op, -1), keepdims=0)
    total = op.emit("ReduceSum", f("Pow", size, order), numbers(op, -1), keepdims=0)
    return f("Pow", total, 1 / order)


@converts("EqualExt", arguments="x y")
def all_equal(op: Operator) -> Tensor:
    """Whether two tensors of one type have one shape and the same elements, as one truth value."""
    x, y = op.tensor("x"), op.tensor("y")
    if op.static_dims(x) != op.static_dims(y) or x.dtype is not y.dtype:
        op.refuse("compares tensors of different types or shapes")
    other = op.cast(op.emit("Not", Formula(op, x.dtype)("Equal", x, y), type=_TRUTH), INT64)
    most = op.emit("ReduceSum", other, type=TensorType(INT64, ()), keepdims=0)
    same = op.emit("Not", op.cast(most, BOOL), type=_TRUTH)
    return op.reshape(same, op.output.shape or ())
