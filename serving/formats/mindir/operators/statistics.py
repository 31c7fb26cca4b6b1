"""Extremes with their places, orders, variances and norms over axes.

Sources: the docstrings of ``mindspore.mint`` max, argmax, sort, topk, var, std, logsumexp, norm and
``mindspore.ops`` Sort, ReduceStd, LpNorm, CountNonZero (2.0 to 2.10), and
https://onnx.ai/onnx/operators/onnx__TopK.html, onnx__ReduceL2.html.
"""

from __future__ import annotations

import math
from typing import Sequence

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.views import lengths_of, numbers
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor, Value
from serving.tensor import BOOL, INT64


@converts("Max", "Min", arguments="x")
def extreme(op: Operator) -> Tensor:
    """The greatest or least of all."""
    return op.emit(f"Reduce{op.node.operator}", op.tensor("x"), keepdims=0)


@converts("MaxDim", "MinDim", arguments="x dim keepdim")
def extreme_along(op: Operator) -> Value:
    """The greatest or least along an axis, and the first place where it is."""
    name = op.node.operator.removesuffix("Dim")
    x, axis, keep = op.tensor("x"), op.integer("dim"), int(op.flag("keepdim", False))
    value, place = op.outputs
    found = op.emit(f"Reduce{name}", x, type=value, axes=[axis], keepdims=keep)
    at = op.emit(f"Arg{name}", x, type=TensorType(INT64, place.shape), axis=axis, keepdims=keep)
    return found, op.cast(at, place.dtype)


@converts("ArgMaxExt", "ArgMinExt", arguments="x dim keepdim")
def place_of_extreme(op: Operator) -> Tensor:
    """The first place of the greatest or least along an axis, or among all elements in a row."""
    operator = op.node.operator.removesuffix("Ext")
    x, keep = op.tensor("x"), int(op.flag("keepdim", False))
    stated = TensorType(INT64, op.output.shape)
    if op.has("dim"):
        found = op.emit(operator, x, type=stated, axis=op.integer("dim"), keepdims=keep)
    else:
        found = op.emit(operator, op.reshape(x, (-1,)), type=stated, axis=0, keepdims=0)
        if keep:
            found = op.reshape(found, (1,) * len(op.dims(x)))
    return op.cast(found, op.output.dtype)


def _ordered(
    op: Operator, axis: int, descending: bool, types: Sequence[TensorType]
) -> tuple[Tensor, Tensor]:
    """Return all elements along an axis in order, and their places; of equals the first first."""
    x = op.tensor("x")
    axis = op.axis(axis, len(op.dims(x)))
    count = op.emit(
        "Gather", lengths_of(op, x), numbers(op, axis), type=TensorType(INT64, (1,)), axis=0
    )
    values, places = types
    found, at = op.emit_several(
        "TopK", x, count, types=[values, TensorType(INT64, places.shape)],
        axis=axis, largest=int(descending), sorted=1,
    )  # fmt: skip
    return found, op.cast(at, places.dtype)


@converts("Sort", "SortExt", arguments="x axis|dim descending stable")
def sort(op: Operator) -> Value:
    """The elements along an axis in order, and their places: TopK of all."""
    return _ordered(op, op.integer("axis|dim", -1), op.flag("descending", False), op.outputs)


@converts("ArgSort", arguments="x dim descending stable")
def arg_sort(op: Operator) -> Tensor:
    """The places of the elements along an axis in their order: TopK of all."""
    values = TensorType(op.tensor("x").dtype, op.output.shape)
    types = (values, op.output)
    return _ordered(op, op.integer("dim", -1), op.flag("descending", False), types)[1]


@converts("TopkExt", arguments="x k dim largest sorted")
def top_k(op: Operator) -> Value:
    """The k greatest or least along an axis in order, and their places: TopK."""
    values, places = op.outputs
    found, at = op.emit_several(
        "TopK", op.tensor("x"), op.reshape(op.tensor("k", INT64), (1,)),
        types=[values, TensorType(INT64, places.shape)], axis=op.integer("dim", -1),
        largest=int(op.flag("largest", True)), sorted=1,
    )  # fmt: skip
    return found, op.cast(at, places.dtype)


def _axes(op: Operator, x: Tensor, name: str) -> list[int]:
    """Return the axes that an argument names; all of them if it is missing or names none."""
    rank = len(op.dims(x))
    named = op.integers(name) if op.has(name) else ()
    return sorted({op.axis(a, rank) for a in named}) or list(range(rank))


def _reduced(op: Operator, operator: str, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """Emit a reduction of floating numbers over axes."""
    dims = op.dims(x)
    kept = [1 if i in axes else n for i, n in enumerate(dims) if keep or i not in axes]
    stated = TensorType(x.dtype, tuple(kept))
    if not axes:
        return op.emit("Identity", x, type=stated)
    if operator == "ReduceSum":
        return op.emit(operator, x, numbers(op, *axes), type=stated, keepdims=int(keep))
    return op.emit(operator, x, type=stated, axes=axes, keepdims=int(keep))


def _count(op: Operator, f: Formula, x: Tensor, axes: list[int]) -> Tensor:
    """Return how many elements a reduction takes together."""
    lengths = [op.dims(x)[a] for a in axes]
    if min(lengths, default=0) >= 0:
        return f.number(math.prod(lengths))
    taken = op.emit(
        "Gather", lengths_of(op, x), numbers(op, *axes),
        type=TensorType(INT64, (len(axes),)), axis=0,
    )  # fmt: skip
    product = op.emit("ReduceProd", taken, type=TensorType(INT64, ()), keepdims=0)
    return op.cast(product, f.dtype)


def _spread(
    op: Operator, f: Formula, axes_name: str, correction: float, keep: bool
) -> tuple[Tensor, Tensor]:
    """Return the variance, whose divisor is the count less the correction, and the mean."""
    x = f.tensor("x")
    axes = _axes(op, x, axes_name)
    middle = _reduced(op, "ReduceMean", x, axes, keep=True)
    away = f("Sub", x, middle)
    total = _reduced(op, "ReduceSum", f("Mul", away, away), axes, keep)
    divisor = f("Max", f("Sub", _count(op, f, x, axes), correction), 0)
    return f("Div", total, divisor), _reduced(op, "ReduceMean", x, axes, keep)


@converts("Var", "Std", "VarMean", "StdMean", arguments="x dim correction keepdim")
def spread(op: Operator) -> Value:
    """The variance or its root over axes, alone or with the mean."""
    name = op.node.operator
    both = name.endswith("Mean")
    f = Formula(op, op.outputs[0].dtype if both else op.output.dtype)
    correction = op.number("correction", 1)
    variance, middle = _spread(op, f, "dim", correction, op.flag("keepdim", False))
    found = f("Sqrt", variance) if name.startswith("Std") else variance
    return (found, middle) if both else found


@converts("ReduceStd", arguments="x axis unbiased keep_dims")
def reduce_std(op: Operator) -> Value:
    """The root of the variance over axes, and the mean."""
    f = Formula(op, op.outputs[0].dtype)
    correction = float(op.flag("unbiased", True))
    variance, middle = _spread(op, f, "axis", correction, op.flag("keep_dims", False))
    return f("Sqrt", variance), middle


@converts("LogSumExp", arguments="x dim keepdim")
def log_sum_exp(op: Operator) -> Tensor:
    """``log(sum(exp(x)))`` over axes, less the greatest on the way, so that nothing overflows."""
    x = op.tensor("x", op.output.dtype)
    axes = _axes(op, x, "dim")
    return _reduced(op, "ReduceLogSumExp", x, axes, op.flag("keepdim", False))


@converts("CountNonZero", arguments="x dim")
def count_non_zero(op: Operator) -> Tensor:
    """How many elements along axes are not 0."""
    truth = op.cast(op.cast(op.tensor("x"), BOOL), INT64)
    found = _reduced(op, "ReduceSum", truth, _axes(op, truth, "dim"), keep=False)
    return op.cast(found, op.output.dtype)


def _norm(op: Operator, f: Formula, order: float, axes_name: str, keep: bool) -> Tensor:
    """Return ``sum(|x| ** order) ** (1 / order)`` over axes, and its limits."""
    x = f.tensor("x")
    axes = _axes(op, x, axes_name)

    def over(operator: str, tensor: Tensor) -> Tensor:
        return _reduced(op, operator, tensor, axes, keep)

    if order in (1, 2):
        return over(f"ReduceL{order:.0f}", x)
    size = f("Abs", x)
    if math.isinf(order):
        return over("ReduceMax" if order > 0 else "ReduceMin", size)
    if order == 0:
        return over("ReduceSum", op.cast(op.cast(x, BOOL), f.dtype))
    return f("Pow", over("ReduceSum", f("Pow", size, order)), 1 / order)


@converts("LinalgVectorNorm", arguments="x ord dim keepdim dtype")
def vector_norm(op: Operator) -> Tensor:
    """A norm over axes, of the order ``ord``."""
    return _norm(op, Formula(op), op.number("ord", 2), "dim", op.flag("keepdim", False))


@converts("Norm", arguments="x p dim keepdim dtype")
def norm(op: Operator) -> Tensor:
    """A norm over axes, of the order ``p``."""
    return _norm(op, Formula(op), op.number("p", 2), "dim", op.flag("keepdim", False))


@converts("LpNorm", "LpNormV2", arguments="x p axis|dim keep_dims|keepdim epsilon")
def lp_norm(op: Operator) -> Tensor:
    """A norm over axes, at least ``epsilon``."""
    f = Formula(op)
    keep = op.flag("keep_dims|keepdim", False)
    found = _norm(op, f, op.number("p", 2), "axis|dim", keep)
    return f("Max", found, op.number("epsilon", 1e-12))


@converts("EuclideanNorm", arguments="x axes keep_dims")
def euclidean_norm(op: Operator) -> Tensor:
    """The root of the sum of squares over axes."""
    return _norm(op, Formula(op), 2, "axes", op.flag("keep_dims", False))
