"""Activation functions that ONNX lacks or writes with settings, and gated units.

Sources: the docstrings of ``mindspore.ops``, ``mindspore.nn`` and ``mindspore.mint.nn.functional``
(2.0 to 2.10): SiLU, Mish, GeLU, HSigmoid, SeLU, CeLU, PReLU, GLU, Softplus, ...;
https://onnx.ai/onnx/operators for what they become.
"""

from __future__ import annotations

import math

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Absent, Tensor, Value
from serving.tensor import FP32

_APPROXIMATE = {0: "NONE", 1: "TANH"}


def _gated(f: Formula, x: Tensor) -> Tensor:
    return f("Mul", x, f("Sigmoid", x))


@converts("SiLU", arguments="x")
def silu(op: Operator) -> Tensor:
    """``x * sigmoid(x)``."""
    f = Formula(op)
    return _gated(f, f.tensor("x"))


@converts("Mish", "MishExt", arguments="x")
def mish(op: Operator) -> Tensor:
    """``x * tanh(log(1 + exp(x)))``."""
    f = Formula(op)
    x = f.tensor("x")
    return f("Mul", x, f("Tanh", f("Softplus", x)))


@converts("GeluExt", "NpuGelu", arguments="x approximate")
def gelu(op: Operator) -> Tensor:
    """``x`` times the normal distribution's share below x, exactly or by its tanh form."""
    f = Formula(op)
    x = f.tensor("x")
    if op.choice("approximate", _APPROXIMATE, "NONE") == "NONE":
        share = f("Erf", f("Mul", x, math.sqrt(0.5)))
    else:
        cube = f("Mul", f("Mul", x, x), x)
        inner = f("Add", x, f("Mul", cube, 0.044715))
        share = f("Tanh", f("Mul", inner, math.sqrt(2 / math.pi)))
    return f("Mul", f("Mul", x, 0.5), f("Add", share, 1))


@converts("FastGeLU", "FastGelu", arguments="x")
def fast_gelu(op: Operator) -> Tensor:
    """``x * sigmoid(1.702 x)``: what the documented quotient of exponentials comes to."""
    f = Formula(op)
    x = f.tensor("x")
    return f("Mul", x, f("Sigmoid", f("Mul", x, 1.702)))


@converts("HSigmoid", arguments="x")
def hard_sigmoid(op: Operator) -> Tensor:
    """``min(max(x + 3, 0), 6) / 6``: HardSigmoid."""
    return op.emit("HardSigmoid", op.tensor("x", op.output.dtype), alpha=1 / 6, beta=0.5)


@converts("SeLU", "SeLUExt", arguments="x")
def selu(op: Operator) -> Tensor:
    """``scale * x`` where positive, else ``scale * alpha * (exp(x) - 1)``: Selu."""
    return op.emit(
        "Selu", op.tensor("x", op.output.dtype),
        alpha=1.6732632423543772, gamma=1.0507009873554805,
    )  # fmt: skip


@converts("CeLU", arguments="x alpha")
def celu(op: Operator) -> Tensor:
    """``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))``: Celu, which has float32 alone."""
    stated = TensorType(FP32, op.output.shape)
    found = op.emit("Celu", op.tensor("x", FP32), type=stated, alpha=op.number("alpha", 1.0))
    return op.cast(found, op.output.dtype)


@converts("EluExt", arguments="x alpha")
def elu(op: Operator) -> Tensor:
    """``x`` where positive, else ``alpha * (exp(x) - 1)``: Elu."""
    return op.emit("Elu", op.tensor("x"), alpha=op.number("alpha", 1.0))


@converts("LogSigmoid", arguments="x")
def log_sigmoid(op: Operator) -> Value:
    """``-log(1 + exp(-x))``; the second of its outputs serves training alone."""
    f = Formula(op, op.outputs[0].dtype)
    found = f("Neg", f("Softplus", f("Neg", f.tensor("x"))))
    return found, Absent("buffer for training")


@converts("SoftplusExt", arguments="x beta threshold")
def softplus(op: Operator) -> Tensor:
    """``log(1 + exp(beta x)) / beta``, and x itself once ``beta x`` is above the threshold."""
    f = Formula(op)
    x, beta = f.tensor("x"), op.number("beta", 1)
    scaled = f("Mul", x, beta)
    soft = f("Div", f("Softplus", scaled), beta)
    return f("Where", f("Greater", scaled, op.number("threshold", 20)), x, soft)


@converts("PReLU", arguments="x weight")
def prelu(op: Operator) -> Tensor:
    """``x`` where positive, else ``weight * x``; a weight for each channel (axis 1) or for all."""
    dtype = op.output.dtype
    x, weight = op.tensor("x", dtype), op.tensor("weight", dtype)
    rank = len(op.dims(x))
    column = (-1, *(1,) * (rank - 2)) if rank > 1 else (-1,)
    return op.emit("PRelu", x, op.reshape(weight, column))


@converts("LogSoftmaxExt", arguments="x dim dtype")
def log_softmax(op: Operator) -> Tensor:
    """The logarithm of Softmax over one axis; without one, 0 for ranks 0, 1 and 3, else 1."""
    x = op.tensor("x", op.output.dtype)
    axis = op.integer("dim") if op.has("dim") else int(len(op.dims(x)) not in (0, 1, 3))
    return op.emit("LogSoftmax", x, axis=axis)


def _halves(op: Operator, axis: int) -> tuple[Formula, Tensor, Tensor]:
    f = Formula(op)
    x = f.tensor("x")
    axis = op.axis(axis, len(op.dims(x)))
    if op.dims(x)[axis] % 2 and op.dims(x)[axis] > 0:
        op.refuse("halves an axis of odd length")
    half = TensorType(x.dtype, op.output.shape)
    first, second = op.emit_several("Split", x, types=[half, half], axis=axis)
    return f, first, second


@converts("GLU", arguments="x axis")
def glu(op: Operator) -> Tensor:
    """The first half times the sigmoid of the second."""
    f, first, second = _halves(op, op.integer("axis", -1))
    return f("Mul", first, f("Sigmoid", second))


@converts("Swiglu", arguments="x dim")
def swiglu(op: Operator) -> Tensor:
    """SiLU of the first half, times the second."""
    f, first, second = _halves(op, op.integer("dim", -1))
    return f("Mul", _gated(f, first), second)
