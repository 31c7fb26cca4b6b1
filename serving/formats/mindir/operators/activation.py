"""Activation functions.

Sources: the docstrings of ``mindspore.ops.operations`` (2.0 to 2.10) and
https://onnx.ai/onnx/operators for what they become.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor

_SAME = {
    "ReLU": "Relu", "Tanh": "Tanh", "Sigmoid": "Sigmoid", "Softplus": "Softplus",
    "Softsign": "Softsign", "HSwish": "HardSwish",
}  # fmt: skip


def _same(op: Operator, operator: str) -> Tensor:
    return op.emit(operator, op.tensor("x"))


for _primitive, _operator in _SAME.items():
    converts(_primitive, arguments="x")(partial(_same, operator=_operator))


@converts("ReLU6", arguments="x")
def relu6(op: Operator) -> Tensor:
    """``min(max(x, 0), 6)``: Clip."""
    x = op.tensor("x")
    bounds = [op.constant(np.array(v, x.dtype.numpy)) for v in (0, 6)]
    return op.emit("Clip", x, *bounds)


@converts("Elu", arguments="x alpha")
def elu(op: Operator) -> Tensor:
    """``x`` where positive, else ``alpha * (exp(x) - 1)``: Elu."""
    return op.emit("Elu", op.tensor("x"), alpha=op.number("alpha", 1.0))


@converts("LeakyReLU", "LeakyReLUExt", arguments="x negative_slope")
def leaky_relu(op: Operator) -> Tensor:
    """``x`` where positive, else ``negative_slope * x``: LeakyRelu."""
    return op.emit("LeakyRelu", op.tensor("x"), alpha=op.number("negative_slope", 0.01))


@converts("GeLU", arguments="x")
def gelu(op: Operator) -> Tensor:
    """``0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))``, the tanh form (ops.GeLU)."""
    x = op.tensor("x")

    def number(value: float) -> Tensor:
        return op.constant(np.array(value, x.dtype.numpy))

    cube = op.emit("Mul", op.emit("Mul", x, x), x)
    inner = op.emit("Add", x, op.emit("Mul", cube, number(0.044715)))
    tanh = op.emit("Tanh", op.emit("Mul", inner, number(math.sqrt(2 / math.pi))))
    return op.emit("Mul", op.emit("Mul", x, number(0.5)), op.emit("Add", tanh, number(1.0)))


@converts("Softmax", arguments="x axis")
def softmax(op: Operator) -> Tensor:
    """Softmax over one axis, or written out over several taken as one, which ONNX lacks."""
    axes = op.integers("axis", (-1,))
    x = op.tensor("x", op.output.dtype)
    if len(axes) == 1:
        return op.emit("Softmax", x, axis=axes[0])
    kept = TensorType(x.dtype, None)
    most = op.emit("ReduceMax", x, type=kept, axes=list(axes), keepdims=1)
    powers = op.emit("Exp", op.emit("Sub", x, most))
    over = op.constant(np.array(axes, np.int64))
    return op.emit("Div", powers, op.emit("ReduceSum", powers, over, type=kept, keepdims=1))


@converts("LogSoftmax", arguments="x axis")
def log_softmax(op: Operator) -> Tensor:
    """The logarithm of Softmax over one axis: LogSoftmax."""
    return op.emit("LogSoftmax", op.tensor("x"), axis=op.integer("axis", -1))
