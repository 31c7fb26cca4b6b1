"""Sums, means and extremes over axes.

Sources: ``mindspore.ops`` ReduceSum, ReduceMean, ReduceMax, ArgMaxWithValue, ... (docstrings of
2.0 and 2.10), the operator definitions of ``mint`` (mindspore/ops/op_def/yaml), and
https://onnx.ai/onnx/operators for what they become.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.elementary import is_whole
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor, Value
from serving.tensor import BOOL, INT32, INT64

_REDUCED = {
    "ReduceSum": "ReduceSum", "ReduceMean": "ReduceMean", "ReduceMax": "ReduceMax",
    "ReduceMin": "ReduceMin", "ReduceProd": "ReduceProd", "SumExt": "ReduceSum",
    "MeanExt": "ReduceMean", "ProdExt": "ReduceProd",
}  # fmt: skip
_HALF = 2**32


@converts(
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd",
    arguments="x axis keep_dims skip_mode",
)  # fmt: skip
def reduce(op: Operator) -> Tensor:
    """Over the axes named, or over all when none is; ``skip_mode`` then means: over none."""
    axes = op.integers("axis", ())
    x = op.tensor("x", op.output.dtype)
    if not axes and op.flag("skip_mode", False):
        return op.emit("Identity", x)
    return _reduced(op, x, axes, op.flag("keep_dims", False))


@converts("SumExt", "MeanExt", "ProdExt", arguments="x axis keep_dims dtype")
def reduce_ext(op: Operator) -> Tensor:
    """The forms of ``mint``: no axes means all, and the output's type may be another."""
    axes = op.integers("axis") if op.has("axis") else ()
    keep = op.flag("keep_dims", False)
    return _reduced(op, op.tensor("x", op.output.dtype), axes, keep)


@converts("ReduceAll", "ReduceAny", arguments="x axis keep_dims")
def reduce_truth(op: Operator) -> Tensor:
    """Whether all or any hold: the least or greatest of 0 and 1."""
    operator = "ReduceMin" if op.node.operator == "ReduceAll" else "ReduceMax"
    axes = op.integers("axis") if op.has("axis") else ()
    numbers = op.tensor("x", INT32)
    found = op.emit(
        operator, numbers, type=TensorType(INT32, op.output.shape),
        axes=list(axes) or None, keepdims=int(op.flag("keep_dims", False)),
    )  # fmt: skip
    return op.cast(found, BOOL)


def _reduced(op: Operator, x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    operator = _REDUCED[op.node.operator]
    if operator == "ReduceSum":
        return total(op, x, axes, keep, op.output)
    return op.emit(operator, x, axes=list(axes) or None, keepdims=int(keep))


def total(op: Operator, x: Tensor, axes: Sequence[int], keep: bool, stated: TensorType) -> Tensor:
    """Return the sum over some axes, or all if none is named; whole numbers wrap as in C.

    ONNX Runtime sums these as doubles: numbers of 32 bits are exact in INT64, those of 64 bits
    are summed by halves. (Of each at most 2**21 are summed without a loss.)
    """
    dtype = x.dtype
    if dtype.name == "UINT64":
        op.refuse("sums numbers of UINT64, which INT64 does not hold")
    if not is_whole(x):
        return _summed(op, x, axes, keep, stated)
    wide = TensorType(INT64, stated.shape)
    if dtype is not INT64:
        return op.cast(_summed(op, op.cast(x, INT64), axes, keep, wide), dtype)
    f = Formula(op, INT64)
    low = f("Mod", x, _HALF)
    high = f("Div", f("Sub", x, low), _HALF)
    halves = [_summed(op, part, axes, keep, wide) for part in (high, low)]
    return f("Add", f("Mul", halves[0], _HALF), halves[1])


def _summed(op: Operator, x: Tensor, axes: Sequence[int], keep: bool, stated: TensorType) -> Tensor:
    # The only reduction that opset 17 gives its axes as an input.
    chosen = op.constant(np.array(axes, np.int64)) if axes else None
    return op.emit("ReduceSum", x, chosen, type=stated, keepdims=int(keep))


@converts("Argmax", "ArgMax", arguments="x axis output_type")
def arg_max(op: Operator) -> Tensor:
    """The place of the greatest along an axis; the first of equals, as ONNX's ArgMax."""
    return _place(op, "ArgMax", op.integer("axis", -1), keep=False, stated=op.output)


@converts("Argmin", "ArgMin", arguments="x axis output_type")
def arg_min(op: Operator) -> Tensor:
    """The place of the least along an axis; the first of equals, as ONNX's ArgMin."""
    return _place(op, "ArgMin", op.integer("axis", -1), keep=False, stated=op.output)


@converts("ArgMaxWithValue", "ArgMinWithValue", arguments="x axis keep_dims")
def arg_with_value(op: Operator) -> Value:
    """The place of the greatest or least along an axis, and its value."""
    greatest = op.node.operator == "ArgMaxWithValue"
    axis, keep = op.integer("axis", 0), op.flag("keep_dims", False)
    place, value = op.outputs
    found = _place(op, "ArgMax" if greatest else "ArgMin", axis, keep, place)
    operator = "ReduceMax" if greatest else "ReduceMin"
    most = op.emit(operator, op.tensor("x"), type=value, axes=[axis], keepdims=int(keep))
    return found, most


def _place(op: Operator, operator: str, axis: int, keep: bool, stated: TensorType) -> Tensor:
    place = op.emit(
        operator, op.tensor("x"), type=TensorType(INT64, stated.shape), axis=axis,
        keepdims=int(keep),
    )  # fmt: skip
    return op.cast(place, stated.dtype)
