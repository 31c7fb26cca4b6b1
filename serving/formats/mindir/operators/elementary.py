"""Functions of one number: trigonometric, hyperbolic, exponential, rounding, tests for NaN.

Sources: the docstrings of ``mindspore.ops`` and ``mindspore.mint`` (2.0 to 2.10) for what each
computes, https://onnx.ai/onnx/operators for what they become. Whole numbers are computed in the
floating type that the output states.
"""

from __future__ import annotations

import math
from functools import partial

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import BOOL, FP16, FP32

_SAME = {
    "Tan": "Tan", "ACos": "Acos", "AcosExt": "Acos", "Asin": "Asin", "AsinExt": "Asin",
    "Atan": "Atan", "AtanExt": "Atan", "Sinh": "Sinh", "Cosh": "Cosh", "Asinh": "Asinh",
    "AsinhExt": "Asinh", "Acosh": "Acosh", "AcoshExt": "Acosh", "Atanh": "Atanh",
    "Inv": "Reciprocal",
}  # fmt: skip
_KEPT = ("Identity", "Copy", "Contiguous", "Clone", "Detach", "StopGradient", "stop_gradient")


def _same(op: Operator, operator: str) -> Tensor:
    return op.emit(operator, op.tensor("x", op.output.dtype))


for _primitive, _operator in _SAME.items():
    converts(_primitive, arguments="x")(partial(_same, operator=_operator))


@converts(*_KEPT, arguments="x sync")
def kept(op: Operator) -> Tensor:
    """The same tensor: copies and stopped gradients mean nothing to a model that only answers."""
    return op.tensor("x", op.output.dtype)


def is_whole(tensor: TensorType | Tensor) -> bool:
    """Return whether a tensor holds whole numbers or truth values."""
    return not tensor.dtype.name.startswith("FP")


@converts("Round", arguments="x decimals")
def round_(op: Operator) -> Tensor:
    """To the nearest multiple of ``10 ** -decimals``, halves to the even one."""
    decimals = op.integer("decimals", 0)
    f = Formula(op)
    x = f.tensor("x")
    if is_whole(op.output):
        if decimals < 0:
            op.refuse("rounds whole numbers to tens")
        return op.emit("Identity", x)
    if decimals == 0:
        return f("Round", x)
    scale = 10.0 ** abs(decimals)
    first, last = ("Mul", "Div") if decimals > 0 else ("Div", "Mul")
    return f(last, f("Round", f(first, x, scale)), scale)


def truncated(f: Formula, x: Tensor) -> Tensor:
    """Return numbers without their fractions."""
    return x if is_whole(x) else f("Mul", f("Sign", x), f("Floor", f("Abs", x)))


@converts("Trunc", arguments="x")
def trunc(op: Operator) -> Tensor:
    """Cut towards zero: the floor of the size, with the sign."""
    f = Formula(op)
    return op.emit("Identity", truncated(f, f.tensor("x")))


@converts("Frac", arguments="x")
def frac(op: Operator) -> Tensor:
    """The fraction, with the sign of x."""
    f = Formula(op)
    x = f.tensor("x")
    return f("Sub", x, truncated(f, x))


@converts("Expm1", arguments="x")
def expm1(op: Operator) -> Tensor:
    """``exp(x) - 1`` as ``tanh(x / 2) * (exp(x) + 1)``, which loses nothing near 0."""
    f = Formula(op)
    x = f.tensor("x")
    return f("Mul", f("Tanh", f("Mul", x, 0.5)), f("Add", f("Exp", x), 1))


def log1p_of(f: Formula, x: Tensor) -> Tensor:
    """Return ``log(1 + x)``; near 0 as ``2 atanh(x / (2 + x))``, which loses nothing there."""
    small = f("Mul", f("Atanh", f("Div", x, f("Add", x, 2))), 2)
    near = f("Less", f("Abs", x), 0.5)
    return f("Where", near, small, f("Log", f("Add", x, 1)))


@converts("Log1p", arguments="x")
def log1p(op: Operator) -> Tensor:
    """``log(1 + x)``."""
    f = Formula(op)
    return log1p_of(f, f.tensor("x"))


@converts("Log2", "Log10", arguments="x")
def log_to_base(op: Operator) -> Tensor:
    """The logarithm to base 2 or 10."""
    f = Formula(op)
    base = 2 if op.node.operator == "Log2" else 10
    return f("Mul", f("Log", f.tensor("x")), 1 / math.log(base))


@converts("Exp2", arguments="x")
def exp2(op: Operator) -> Tensor:
    """``2 ** x``."""
    f = Formula(op)
    return f("Pow", 2.0, f.tensor("x"))


_ERFC = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398,
    1.48851587, -0.82215223, 0.17087277,
)  # fmt: skip
"""Chebyshev fit of ``log(erfc(x) / t) + x * x`` in t = 1 / (1 + x / 2), relative error 1.2e-7
(Press et al., Numerical Recipes, section 6.2)."""


@converts("Erfc", arguments="x")
def erfc(op: Operator) -> Tensor:
    """``1 - erf(x)``; the difference itself where it is small would be all rounding."""
    if op.output.dtype not in (FP16, FP32):
        op.refuse("needs more than the precision of float32")
    f = Formula(op, FP32)
    x = f.tensor("x")
    size = f("Abs", x)
    t = f("Reciprocal", f("Add", f("Mul", size, 0.5), 1))
    power = f.number(_ERFC[-1])
    for coefficient in reversed(_ERFC[:-1]):
        power = f("Add", f("Mul", power, t), coefficient)
    tail = f("Mul", t, f("Exp", f("Sub", power, f("Mul", size, size))))
    both = f("Where", f("Less", x, 0), f("Sub", 2, tail), tail)
    found = f("Where", f("Less", size, 0.5), f("Sub", 1, f("Erf", x)), both)
    return op.cast(found, op.output.dtype)


@converts("Sinc", arguments="x")
def sinc(op: Operator) -> Tensor:
    """``sin(pi x) / (pi x)``, 1 at 0."""
    f = Formula(op)
    x = f("Mul", f.tensor("x"), math.pi)
    none = f("Equal", x, 0)
    return f("Where", none, f.number(1), f("Div", f("Sin", x), f("Where", none, f.number(1), x)))


@converts("IsNan", "IsInf", "IsFinite", "IsNegInf", arguments="x")
def tested(op: Operator) -> Tensor:
    """Whether a number is NaN, infinite, neither, or minus infinity: IsNaN, IsInf."""
    x = op.tensor("x")
    # ONNX tests float and double alone; every other number fits one of them as to this.
    f = Formula(op, x.dtype if x.dtype.name == "FP64" else FP32)
    x = op.cast(x, f.dtype)
    name = op.node.operator
    if name == "IsNan":
        return f("IsNaN", x)
    if name == "IsNegInf":
        return f("IsInf", x, detect_positive=0)
    infinite = f("IsInf", x)
    return infinite if name == "IsInf" else f("Not", f("Or", infinite, f("IsNaN", x)))


@converts("NanToNum", arguments="x nan posinf neginf")
def nan_to_num(op: Operator) -> Tensor:
    """NaN and the infinities replaced, by default by 0 and the type's greatest and least."""
    f = Formula(op)
    x = f.tensor("x")
    if is_whole(x):
        return op.emit("Identity", x)
    greatest = {"FP16": 65504.0, "FP32": 3.4028234663852886e38}.get(
        f.dtype.name, 1.7976931348623157e308
    )
    nan = op.number("nan") if op.has("nan") else 0.0
    up = op.number("posinf") if op.has("posinf") else greatest
    down = op.number("neginf") if op.has("neginf") else -greatest
    wide = x if f.dtype.name == "FP64" else op.cast(x, FP32)
    found = f("Where", f("IsNaN", wide), f.number(nan), x)
    found = f("Where", f("IsInf", wide, detect_negative=0), f.number(up), found)
    return f("Where", f("IsInf", wide, detect_positive=0), f.number(down), found)


@converts("BoolNot", arguments="x")
def bool_not(op: Operator) -> Tensor:
    """Not, of a truth value."""
    return op.emit("Not", op.tensor("x", BOOL))


@converts("Logit", arguments="x eps")
def logit(op: Operator) -> Tensor:
    """``log(x / (1 - x))``, x kept between ``eps`` and ``1 - eps`` unless eps is below 0."""
    f = Formula(op)
    x = f.tensor("x")
    eps = op.number("eps", -1.0)
    if eps >= 0:
        x = f("Min", f("Max", x, eps), 1 - eps)
    return f("Log", f("Div", x, f("Sub", 1, x)))
