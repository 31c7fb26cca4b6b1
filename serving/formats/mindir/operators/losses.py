"""Losses, which networks built for training or evaluation give.

Sources: the docstrings of ``mindspore.ops`` SoftmaxCrossEntropyWithLogits, BinaryCrossEntropy,
BCEWithLogitsLoss, NLLLoss, KLDivLoss, SmoothL1Loss, SoftMarginLoss and ``mindspore.mint`` mse_loss,
l1_loss (2.0 to 2.10); where a logarithm of 0 is taken, the definition of MindSpore's CPU kernels.
"""

from __future__ import annotations

import numpy as np

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.elementary import log1p_of
from serving.formats.mindir.operators.views import numbers
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor, Value
from serving.tensor import INT64

_REDUCTION = {0: "SUM", 1: "MEAN", 2: "NONE", 3: "BATCHMEAN"}
"""How 2.3 and later number ``reduction`` (mindspore/ops/op_def/op_enum.h); the last is a word."""
_LEAST = 1e-12
"""What BinaryCrossEntropy adds to what it takes the logarithm of."""


def _along(op: Operator, x: Tensor, axis: int) -> Tensor:
    """Return the sum along one axis."""
    shape = op.dims(x)
    kept = (*shape[:axis], *shape[axis:][1:])
    return op.emit("ReduceSum", x, numbers(op, axis), type=TensorType(x.dtype, kept), keepdims=0)


def _all(op: Operator, x: Tensor, operator: str) -> Tensor:
    """Return the sum or mean of all elements."""
    return op.emit(operator, x, type=TensorType(x.dtype, ()), keepdims=0)


def _reduced(op: Operator, each: Tensor, default: str = "MEAN") -> Tensor:
    """Return what ``reduction`` makes of the losses of each element."""
    kind = op.choice("reduction", _REDUCTION, default)
    if kind == "BATCHMEAN":
        count = op.emit(
            "Gather", op.emit("Shape", each, type=TensorType(INT64, (-1,))),
            op.constant(np.array(0, np.int64)), type=TensorType(INT64, ()), axis=0,
        )  # fmt: skip
        return Formula(op)("Div", _all(op, each, "ReduceSum"), op.cast(count, each.dtype))
    if kind == "NONE":
        return op.emit("Identity", each)
    return _all(op, each, "ReduceSum" if kind == "SUM" else "ReduceMean")


@converts("SoftmaxCrossEntropyWithLogits", arguments="logits labels")
def soft_cross_entropy(op: Operator) -> Value:
    """``-sum(labels * log(softmax(logits)))`` of each row, and ``softmax(logits) - labels``."""
    f = Formula(op, op.outputs[0].dtype)
    logits, labels = f.tensor("logits"), f.tensor("labels")
    logs = f("LogSoftmax", logits, axis=-1)
    loss = _along(op, f("Mul", f("Neg", labels), logs), len(op.dims(logits)) - 1)
    return loss, f("Sub", f("Softmax", logits, axis=-1), labels)


@converts("SparseSoftmaxCrossEntropyWithLogits", arguments="logits labels")
def sparse_cross_entropy(op: Operator) -> Tensor:
    """The mean of ``-log(softmax(logits))`` at the label of each row."""
    if op.flag("is_grad", False):
        op.refuse("gives the gradient of a loss (is_grad)")
    f = Formula(op)
    logs = f("LogSoftmax", f.tensor("logits"), axis=-1)
    column = op.reshape(op.tensor("labels", INT64), (-1, 1))
    found = op.emit("GatherElements", logs, column, type=TensorType(f.dtype, (-1, 1)), axis=1)
    return f("Neg", _all(op, found, "ReduceMean"))


@converts("BinaryCrossEntropy", arguments="x y weight reduction")
def binary_cross_entropy(op: Operator) -> Tensor:
    """``-w * (y * log(x) + (1 - y) * log(1 - x))``, finite where x is 0 or 1."""
    f = Formula(op)
    x, y = f.tensor("x"), f.tensor("y")
    hit = f("Mul", y, f("Log", f("Add", x, _LEAST)))
    miss = f("Mul", f("Sub", 1, y), f("Log", f("Add", f("Sub", 1, x), _LEAST)))
    loss = f("Neg", f("Add", hit, miss))
    return _reduced(op, f("Mul", f.tensor("weight"), loss) if op.has("weight") else loss)


@converts("BCEWithLogitsLoss", arguments="x y weight pos_weight reduction")
def logits_cross_entropy(op: Operator) -> Tensor:
    """Binary cross entropy of ``sigmoid(x)``; ``pos_weight`` multiplies the part of y."""
    f = Formula(op)
    x, y = f.tensor("x"), f.tensor("y")
    # -log(sigmoid(x)), of which no part overflows.
    hit = f("Add", log1p_of(f, f("Exp", f("Neg", f("Abs", x)))), f("Max", f("Neg", x), 0))
    if op.has("pos_weight"):
        more = f("Mul", f("Sub", f.tensor("pos_weight"), 1), y)
        hit = f("Mul", hit, f("Add", more, 1))
    loss = f("Add", f("Mul", f("Sub", 1, y), x), hit)
    return _reduced(op, f("Mul", f.tensor("weight"), loss) if op.has("weight") else loss)


@converts("NLLLoss", arguments="logs labels weight reduction ignore_index")
def negative_log_likelihood(op: Operator) -> Value:
    """``-w[label] * logs[label]`` of each row, or their sum, by the sum of weights if a mean.

    Labels equal to ``ignore_index`` count for nothing. The second output is the sum of weights.
    """
    stated, weights = op.outputs
    f = Formula(op, stated.dtype)
    logs, labels = f.tensor("logs"), op.tensor("labels", INT64)
    ignored = op.constant(np.array(op.integer("ignore_index", -100), np.int64))
    dropped = Formula(op, INT64)("Equal", labels, ignored)
    zero = op.constant(np.array(0, np.int64))
    label = op.emit("Where", dropped, zero, labels, type=labels.type)
    row = TensorType(f.dtype, labels.shape)
    weight = op.emit("Gather", f.tensor("weight"), label, type=row, axis=0)
    weight = f("Where", dropped, f.number(0), weight)
    column = op.reshape(label, (-1, 1))
    found = op.emit("GatherElements", logs, column, type=TensorType(f.dtype, (-1, 1)), axis=1)
    found = f("Where", dropped, f.number(0), op.reshape(found, (-1,)))
    loss, count = f("Neg", f("Mul", found, weight)), _all(op, weight, "ReduceSum")
    kind = op.choice("reduction", _REDUCTION, "MEAN")
    if kind != "NONE":
        loss = _all(op, loss, "ReduceSum")
    if kind == "MEAN":
        loss = f("Div", loss, count)
    return loss, op.cast(count, weights.dtype)


@converts("KLDivLoss", arguments="x target reduction")
def divergence(op: Operator) -> Tensor:
    """``target * (log(target) - x)``, 0 where the target is not above 0."""
    f = Formula(op)
    x, target = f.tensor("x"), f.tensor("target")
    some = f("Greater", target, 0)
    logs = f("Log", f("Where", some, target, f.number(1)))
    return _reduced(op, f("Where", some, f("Mul", target, f("Sub", logs, x)), f.number(0)))


@converts("SmoothL1Loss", arguments="x y beta reduction")
def smooth_l1(op: Operator) -> Tensor:
    """``d * d / (2 * beta)`` where the distance d is below ``beta``, else ``d - beta / 2``."""
    f = Formula(op)
    beta = op.number("beta", 1.0)
    if beta <= 0:
        op.refuse(f"has a beta of {beta:g}")
    apart = f("Abs", f("Sub", f.tensor("x"), f.tensor("y")))
    near = f("Div", f("Mul", f("Mul", apart, apart), 0.5), beta)
    found = f("Where", f("Less", apart, beta), near, f("Sub", apart, beta / 2))
    return _reduced(op, found, "NONE")


@converts("MSELossExt", "L1LossExt", arguments="x y reduction")
def distance(op: Operator) -> Tensor:
    """The squared or absolute difference."""
    f = Formula(op)
    apart = f("Sub", f.tensor("x"), f.tensor("y"))
    square = op.node.operator == "MSELossExt"
    return _reduced(op, f("Mul", apart, apart) if square else f("Abs", apart))


@converts("SoftMarginLoss", arguments="x y reduction")
def soft_margin(op: Operator) -> Tensor:
    """``log(1 + exp(-y * x))``."""
    f = Formula(op)
    away = f("Neg", f("Mul", f.tensor("x"), f.tensor("y")))
    soft = log1p_of(f, f("Exp", f("Neg", f("Abs", away))))
    return _reduced(op, f("Add", f("Max", away, 0), soft))
