"""Quotients and remainders, each rounded in its own way, and functions of two numbers.

Sources: the docstrings of ``mindspore.ops`` Mod, FloorMod, TruncateDiv, DivNoNan, Xdivy, Atan2,
Hypot, ... and ``mindspore.mint`` fmod, remainder, div (2.0 to 2.10), and
https://onnx.ai/onnx/operators/onnx__Mod.html. Both operands are computed in the type that the
output states: whole numbers beside floating ones become such.
"""

from __future__ import annotations

import math

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.elementary import is_whole, log1p_of, truncated
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Known, Tensor
from serving.tensor import BOOL, FP32

_ROUNDING = {0: "NONE", 1: "TRUNC", 2: "FLOOR"}
"""How 2.3 and later number ``rounding_mode`` (mindspore/ops/op_def/op_enum.h)."""


def _operands(op: Operator) -> tuple[Formula, Tensor, Tensor]:
    f = Formula(op)
    return f, f.tensor("x"), f.tensor("y")


def _floor_mod(f: Formula, x: Tensor, y: Tensor) -> Tensor:
    """Return the remainder with the sign of the divisor, as Python's ``%``."""
    if is_whole(x):
        return f("Mod", x, y)
    rest = f("Mod", x, y, fmod=1)
    other = f("Less", f("Mul", f("Sign", rest), f("Sign", y)), 0)
    return f("Where", other, f("Add", rest, y), rest)


def _floored(f: Formula, x: Tensor, y: Tensor) -> Tensor:
    if is_whole(x):
        return f("Div", f("Sub", x, _floor_mod(f, x, y)), y)
    return f("Floor", f("Div", x, y))


@converts("Mod", "TruncateMod", "FmodTensor", "FmodScalar", arguments="x y")
def truncated_remainder(op: Operator) -> Tensor:
    """The remainder with the sign of x, as C's ``fmod``."""
    f, x, y = _operands(op)
    return f("Mod", x, y, fmod=1)


@converts(
    "FloorMod", "RemainderTensorTensor", "RemainderTensorScalar", "RemainderScalarTensor",
    arguments="x y",
)  # fmt: skip
def floor_mod(op: Operator) -> Tensor:
    """The remainder with the sign of the divisor, as Python's ``%``."""
    return _floor_mod(*_operands(op))


@converts("FloorDivScalar", arguments="x y")
def floor_divide(op: Operator) -> Tensor:
    """``floor(x / y)``."""
    return _floored(*_operands(op))


@converts("TruncateDiv", arguments="x y")
def truncate_divide(op: Operator) -> Tensor:
    """``x / y`` cut towards zero, which is what ONNX's Div does with whole numbers."""
    f, x, y = _operands(op)
    return truncated(f, f("Div", x, y))


@converts("DivMod", "DivMods", arguments="x y rounding_mode")
def rounded_quotient(op: Operator) -> Tensor:
    """``x / y``, as it is, cut towards zero, or rounded down."""
    f, x, y = _operands(op)
    mode = op.choice("rounding_mode", _ROUNDING, "NONE") if op.has("rounding_mode") else "NONE"
    if mode == "FLOOR":
        return _floored(f, x, y)
    if mode == "NONE" and is_whole(x):
        op.refuse("divides into whole numbers")
    quotient = f("Div", x, y)
    return truncated(f, quotient) if mode == "TRUNC" else quotient


@converts("DivNoNan", arguments="x y")
def divide_or_zero(op: Operator) -> Tensor:
    """``x / y``, 0 where y is 0."""
    f, x, y = _operands(op)
    none = f("Equal", y, 0)
    return f("Where", none, f.number(0), f("Div", x, f("Where", none, f.number(1), y)))


@converts("Xdivy", arguments="x y")
def xdivy(op: Operator) -> Tensor:
    """``x / y``, 0 where x is 0."""
    f, x, y = _operands(op)
    return f("Where", f("Equal", x, 0), f.number(0), f("Div", x, y))


@converts("Xlogy", "XLogYScalarOther", "XLogYScalarSelf", arguments="x y")
def xlogy(op: Operator) -> Tensor:
    """``x * log(y)``, 0 where x is 0 and y is a number."""
    f, x, y = _operands(op)
    wide = y if f.dtype.name == "FP64" else op.cast(y, FP32)
    none = f("And", f("Equal", x, 0), f("Not", f("IsNaN", wide)))
    return f("Where", none, f.number(0), f("Mul", x, f("Log", y)))


@converts("SquaredDifference", arguments="x y")
def squared_difference(op: Operator) -> Tensor:
    """``(x - y) ** 2``."""
    f, x, y = _operands(op)
    difference = f("Sub", x, y)
    return f("Mul", difference, difference)


@converts("Hypot", arguments="x y")
def hypot(op: Operator) -> Tensor:
    """``sqrt(x * x + y * y)``, scaled by the larger so that no square overflows."""
    f, x, y = _operands(op)
    x, y = f("Abs", x), f("Abs", y)
    larger, smaller = f("Max", x, y), f("Min", x, y)
    # Of equals the ratio is 1, be they zeros or infinities.
    ratio = f("Where", f("Equal", x, y), f.number(1), f("Div", smaller, larger))
    return f("Mul", larger, f("Sqrt", f("Add", f("Mul", ratio, ratio), 1)))


def _is_negative(f: Formula, x: Tensor) -> Tensor:
    """Return whether a number has a minus sign, that of -0 included."""
    return f("Or", f("Less", x, 0), f("Less", f("Reciprocal", x), 0))


@converts("Atan2", "Atan2Ext", arguments="x y")
def atan2(op: Operator) -> Tensor:
    """The angle of the point (y, x), by the sizes of both and then their signs."""
    f, x, y = _operands(op)
    height, width = f("Abs", x), f("Abs", y)
    equal = f("Equal", height, width)
    angle = f("Atan", f("Where", equal, f("Sign", height), f("Div", height, width)))
    angle = f("Where", _is_negative(f, y), f("Sub", math.pi, angle), angle)
    return f("Where", _is_negative(f, x), f("Neg", angle), angle)


@converts("LogAddExp", "LogAddExp2", arguments="x y")
def log_add_exp(op: Operator) -> Tensor:
    """``log(e**x + e**y)``, or to base 2: the larger and what the smaller adds to it."""
    f, x, y = _operands(op)
    base = 1.0 if op.node.operator == "LogAddExp" else math.log(2)
    apart = f("Mul", f("Neg", f("Abs", f("Sub", x, y))), base)
    more = f("Div", log1p_of(f, f("Exp", apart)), base)
    # Of equals the difference is 0, infinities included, whose difference would be NaN.
    more = f("Where", f("Equal", x, y), f.number(math.log(2) / base), more)
    return f("Add", f("Max", x, y), more)


@converts("Fmax", "Fmin", arguments="x y")
def extremum_of_numbers(op: Operator) -> Tensor:
    """The larger or smaller; of a number and NaN the number."""
    f, x, y = _operands(op)
    if not is_whole(x):
        narrow = f.dtype.name == "FP16"
        absent = [f("IsNaN", op.cast(t, FP32) if narrow else t) for t in (x, y)]
        x, y = f("Where", absent[0], y, x), f("Where", absent[1], x, y)
    return f("Max" if op.node.operator == "Fmax" else "Min", x, y)


@converts("Heaviside", arguments="x y")
def heaviside(op: Operator) -> Tensor:
    """0 below 0, 1 above, and y at 0."""
    f, x, y = _operands(op)
    step = f("Where", f("Less", x, 0), f.number(0), f.number(1))
    return f("Where", f("Equal", x, 0), y, step)


@converts("PowTensorScalar", "PowScalarTensor", arguments="x y")
def power(op: Operator) -> Tensor:
    """``x ** y``."""
    f, x, y = _operands(op)
    return f("Pow", x, y)


@converts("AddScalar", "SubScalar", arguments="x y alpha")
def scaled_sum(op: Operator) -> Tensor:
    """``x + alpha * y`` or ``x - alpha * y``."""
    f, x, y = _operands(op)
    alpha = op.number("alpha", 1)
    if alpha != 1:
        y = f("Mul", y, alpha)
    return f("Add" if op.node.operator == "AddScalar" else "Sub", x, y)


_COMPARED = {
    "EqScalar": "Equal", "LessScalar": "Less", "GreaterEqualScalar": "GreaterOrEqual",
}  # fmt: skip


@converts(*_COMPARED, arguments="x y")
def compared_with_number(op: Operator) -> Tensor:
    """A comparison with a number; whole numbers are compared with a fraction as float32."""
    x = op.tensor("x")
    y = op.value("y")
    fraction = isinstance(y, Known) and isinstance(y.value, float)
    dtype = FP32 if fraction and is_whole(x) else x.dtype
    return op.emit(_COMPARED[op.node.operator], op.cast(x, dtype), op.as_tensor(y, dtype))


@converts("IsClose", arguments="x y rtol atol equal_nan")
def is_close(op: Operator) -> Tensor:
    """``|x - y| <= atol + rtol * |y|``; equal infinities are close, and NaNs if it says so."""
    dtype = op.tensor("x").dtype
    f = Formula(op, dtype if dtype.name == "FP64" else FP32)
    x, y = f.tensor("x"), f.tensor("y")
    margin = f("Add", f("Mul", f("Abs", y), op.number("rtol", 1e-5)), op.number("atol", 1e-8))
    near = f("LessOrEqual", f("Abs", f("Sub", x, y)), margin)
    near = f("And", near, f("Not", f("IsInf", y)))
    found = f("Or", near, f("Equal", x, y))
    if op.flag("equal_nan", False):
        found = f("Or", found, f("And", f("IsNaN", x), f("IsNaN", y)))
    return op.emit("Identity", found, type=TensorType(BOOL, op.output.shape))


@converts("ApproximateEqual", arguments="x y tolerance")
def approximately_equal(op: Operator) -> Tensor:
    """``|x - y| < tolerance``."""
    f = Formula(op, op.tensor("x").dtype)
    apart = f("Abs", f("Sub", f.tensor("x"), f.tensor("y")))
    return f("Less", apart, op.number("tolerance", 1e-5))


@converts("AddN", "AccumulateNV2", arguments="tensors")
def add_all(op: Operator) -> Tensor:
    """The sum of tensors, from the first to the last."""
    f = Formula(op)
    total, *rest = op.tensors("tensors", f.dtype)
    for tensor in rest:
        total = f("Add", total, tensor)
    return op.emit("Identity", total)


@converts("Addcmul", "Addcdiv", "AddcmulExt", "AddcdivExt", arguments="x one other value")
def add_scaled(op: Operator) -> Tensor:
    """``x + value * one * other`` or ``x + value * one / other``."""
    f = Formula(op)
    operator = "Mul" if "mul" in op.node.operator else "Div"
    both = f(operator, f.tensor("one"), f.tensor("other"))
    value = f.tensor("value") if op.has("value") else f.number(1)
    return f("Add", f.tensor("x"), f("Mul", value, both))
