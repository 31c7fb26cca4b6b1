"""Elementwise arithmetic and comparison, with numpy's broadcasting on both sides.

Sources: the docstrings of ``mindspore.ops.operations`` (2.0 to 2.10) and
https://onnx.ai/onnx/operators for what they become.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.registry import converts
from serving.formats.mindir.value import Known, Tensor
from serving.tensor import BOOL, DType

_ONE = {
    "Abs": "Abs", "Ceil": "Ceil", "Cos": "Cos", "Erf": "Erf", "Exp": "Exp", "Floor": "Floor",
    "Log": "Log", "Neg": "Neg", "Reciprocal": "Reciprocal", "Rint": "Round", "Sign": "Sign",
    "Sin": "Sin", "Sqrt": "Sqrt",
}  # fmt: skip
_TWO = {
    "Add": "Add", "TensorAdd": "Add", "Sub": "Sub", "Mul": "Mul", "Pow": "Pow", "Adds": "Add",
    "Subs": "Sub", "Muls": "Mul",
}  # fmt: skip
_COMPARED = {
    "Equal": "Equal", "Greater": "Greater", "GreaterEqual": "GreaterOrEqual", "Less": "Less",
    "LessEqual": "LessOrEqual",
}  # fmt: skip
_LOGICAL = {"LogicalAnd": "And", "LogicalOr": "Or", "LogicalXor": "Xor"}


def _one(op: Operator, operator: str) -> Tensor:
    return op.emit(operator, op.tensor("x", op.output.dtype))


def _two(op: Operator, operator: str) -> Tensor:
    # 2.10 leaves a float32 scalar beside float16 tensors; the output's type is what it means.
    dtype = op.output.dtype
    return op.emit(operator, op.tensor("x", dtype), op.tensor("y", dtype))


def _compared(op: Operator, operator: str) -> Tensor:
    return op.emit(operator, *_common(op))


def _logical(op: Operator, operator: str) -> Tensor:
    return op.emit(operator, op.tensor("x", BOOL), op.tensor("y", BOOL))


def _common(op: Operator) -> tuple[Tensor, Tensor]:
    """Return both operands in one type: that of the tensor where the other is a number."""
    x, y = op.value("x"), op.value("y")
    if isinstance(y, Known) and not isinstance(y.value, np.ndarray):
        first = op.tensor("x")
        return first, op.as_tensor(y, first.dtype)
    if isinstance(x, Known) and not isinstance(x.value, np.ndarray):
        second = op.tensor("y")
        return op.as_tensor(x, second.dtype), second
    first, second = op.tensor("x"), op.tensor("y")
    dtype = _wider(first, second)
    return op.cast(first, dtype), op.cast(second, dtype)


def _wider(one: Tensor, other: Tensor) -> DType:
    """Return the type of two operands that they are compared in; scalars give way."""
    if one.dtype is other.dtype:
        return one.dtype
    if bool(one.shape) != bool(other.shape):
        return one.dtype if one.shape else other.dtype
    floats = [t.dtype for t in (one, other) if t.dtype.name.startswith("FP")]
    return max(floats or [one.dtype, other.dtype], key=lambda d: d.itemsize)


for _table, _rule, _arguments in (
    (_ONE, _one, "x"), (_TWO, _two, "x y"), (_COMPARED, _compared, "x y"),
    (_LOGICAL, _logical, "x y"),
):  # fmt: skip
    for _primitive, _operator in _table.items():
        converts(_primitive, arguments=_arguments)(partial(_rule, operator=_operator))


@converts("Div", "RealDiv", "Divs", arguments="x y")
def divide(op: Operator) -> Tensor:
    """Division: of whole numbers into a float, or cut towards zero where the output is whole.

    Which of the two the output states: MindSpore 2.0 does the latter, as ONNX's Div.
    """
    dtype = op.output.dtype
    return op.emit("Div", op.tensor("x", dtype), op.tensor("y", dtype))


@converts("Maximum", "Minimum", arguments="x y")
def extremum(op: Operator) -> Tensor:
    """The larger or smaller of two: Max, Min."""
    dtype = op.output.dtype
    operator = {"Maximum": "Max", "Minimum": "Min"}[op.node.operator]
    return op.emit(operator, op.tensor("x", dtype), op.tensor("y", dtype))


@converts("NotEqual", arguments="x y")
def not_equal(op: Operator) -> Tensor:
    """Equal, denied: ONNX has no operator of its own."""
    return op.emit("Not", op.emit("Equal", *_common(op)))


@converts("LogicalNot", arguments="x")
def logical_not(op: Operator) -> Tensor:
    """Not."""
    return op.emit("Not", op.tensor("x", BOOL))


@converts("InplaceAddExt", "AddExt", "SubExt", arguments="x y alpha")
def scaled_sum(op: Operator) -> Tensor:
    """``x + alpha * y`` or ``x - alpha * y``; that x is overwritten is seen by nobody."""
    dtype = op.output.dtype
    x, y = op.tensor("x", dtype), op.tensor("y", dtype)
    alpha = op.number("alpha", 1)
    if alpha != 1:
        y = op.emit("Mul", y, op.constant(np.array(alpha, dtype.numpy)), type=y.type)
    return op.emit("Sub" if op.node.operator == "SubExt" else "Add", x, y)


@converts("Square", arguments="x")
def square(op: Operator) -> Tensor:
    """``x * x``."""
    x = op.tensor("x")
    return op.emit("Mul", x, x)


@converts("Rsqrt", arguments="x")
def reciprocal_root(op: Operator) -> Tensor:
    """``1 / sqrt(x)``."""
    return op.emit("Reciprocal", op.emit("Sqrt", op.tensor("x")))


@converts("Cast", arguments="x dtype")
def cast(op: Operator) -> Tensor:
    """Cast to the type that the node's output states, which all releases write alike."""
    return op.cast(op.tensor("x"), op.output.dtype)


@converts("FloorDiv", arguments="x y")
def floor_divide(op: Operator) -> Tensor:
    """``floor(x / y)``; whole numbers by way of Mod, for ONNX's Div cuts towards zero."""
    dtype = op.output.dtype
    x, y = op.tensor("x", dtype), op.tensor("y", dtype)
    if dtype.name.startswith("FP"):
        return op.emit("Floor", op.emit("Div", x, y))
    rest = op.emit("Mod", x, y)
    return op.emit("Div", op.emit("Sub", x, rest), y)
