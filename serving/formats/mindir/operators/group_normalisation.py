"""Normalisation by means and variances: of groups of channels, of rows, or learned.

Sources: ``mindspore.ops`` GroupNorm, InstanceNorm, InstanceNormV2, ``mint.nn.functional``
batch_norm, layer_norm (docstrings of 2.0 and 2.10) and MindSpore's answers on a CPU. All is
computed in float32, whatever the type of the input.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.pieces import mean
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType, TupleType
from serving.formats.mindir.value import Absent, Tensor, Value
from serving.tensor import FP32, INT64

_STATISTICS = Absent("statistics of a normalisation")


@converts("GroupNorm", arguments="x num_groups weight bias eps")
def group_norm(op: Operator) -> Value:
    """Each group of channels of each image, scaled for each channel; a tuple of three."""
    x = op.tensor("x", FP32)
    dims, groups = op.dims(x), op.integer("num_groups")
    if len(dims) < 2 or groups < 1 or dims[1] < 1 or dims[1] % groups:
        op.refuse(f"divides its channels into {groups} groups")
    order = op.constant(np.array([0, groups, -1], np.int64))
    rows = op.emit("Reshape", x, order, type=TensorType(FP32, (dims[0], groups, -1)))
    even = _standard(op, rows, [-1], op.number("eps", 1e-5))
    shape = op.emit("Shape", x, type=TensorType(INT64, (len(dims),)))
    y = op.emit("Reshape", even, shape, type=x.type)
    return _answer(op, _scaled(op, y, "weight", "bias", len(dims) - 2))


@converts("InstanceNorm", arguments="x gamma beta mean variance")
def instance_norm(op: Operator) -> Value:
    """Each channel of each image by its own mean and variance: a scale for each channel."""
    x = op.tensor("x", FP32)
    axes = range(2, len(op.dims(x)))
    y = _standard(op, x, list(axes), op.number("epsilon", 1e-5))
    return _answer(op, _scaled(op, y, "gamma", "beta", len(axes)))


@converts("InstanceNormV2", arguments="x gamma beta mean variance")
def instance_norm_v2(op: Operator) -> Value:
    """Each channel of each image; in training by its own statistics, else by those given.

    The scale, shift and statistics have a value for each channel of each image.
    """
    x = op.tensor("x", FP32)
    epsilon = op.number("epsilon", 1e-5)
    if len(op.dims(x)) != 4:
        op.refuse("normalises what is no stack of images (NCHW)")
    if op.flag("is_training", True):
        y = _standard(op, x, [2, 3], epsilon)
    else:
        y = _from(op, x, op.tensor("mean", FP32), op.tensor("variance", FP32), epsilon)
    return _answer(op, _scaled(op, y, "gamma", "beta", 0))


@converts("BatchNormExt", arguments="x weight bias mean variance training momentum epsilon")
def batch_norm_ext(op: Operator) -> Value:
    """Each channel by a learned mean and variance; the scale and shift are optional."""
    if op.flag("training", False):
        op.refuse("normalises with the statistics of its batch; export the network for inference")
    x = op.tensor("x", FP32)
    behind = len(op.dims(x)) - 2
    mean, variance = (_for_channels(op, op.tensor(n, FP32), behind) for n in ("mean", "variance"))
    y = _from(op, x, mean, variance, op.number("epsilon", 1e-5))
    return _answer(op, _scaled(op, y, "weight", "bias", behind))


@converts("LayerNormExt", arguments="x normalized_shape weight bias eps")
def layer_norm_ext(op: Operator) -> Value:
    """The last axes, as many as ``normalized_shape`` names; the scale and shift are optional."""
    count = len(op.integers("normalized_shape"))
    x = op.tensor("x", FP32)
    y = _standard(op, x, range(-count, 0), op.number("eps", 1e-5))
    return _answer(op, _scaled(op, y, "weight", "bias", 0))


@converts("AddLayerNormV2", arguments="x y gamma beta epsilon additionalOut")
def add_layer_norm(op: Operator) -> Value:
    """The last axis of a sum; the sum itself is the last of four answers."""
    total = Formula(op, op.outputs[0].dtype)("Add", op.tensor("x"), op.tensor("y"))
    x = op.cast(total, FP32)
    y = _standard(op, x, [-1], op.number("epsilon", 1e-5))
    normal = op.cast(_scaled(op, y, "gamma", "beta", 0), op.outputs[0].dtype)
    return normal, _STATISTICS, _STATISTICS, op.cast(total, op.outputs[3].dtype)


def _standard(op: Operator, x: Tensor, axes: Sequence[int], epsilon: float) -> Tensor:
    """Return x less its mean over axes, by the root of its variance."""
    real = Formula(op, FP32)
    centred = op.emit("Sub", x, mean(op, x, axes), type=x.type)
    variance = mean(op, op.emit("Mul", centred, centred, type=x.type), axes)
    deviation = real("Sqrt", real("Add", variance, epsilon))
    return op.emit("Div", centred, deviation, type=x.type)


def _from(op: Operator, x: Tensor, mean: Tensor, variance: Tensor, epsilon: float) -> Tensor:
    real = Formula(op, FP32)
    deviation = real("Sqrt", real("Add", variance, epsilon))
    return op.emit("Div", op.emit("Sub", x, mean, type=x.type), deviation, type=x.type)


def _scaled(op: Operator, x: Tensor, scale: str, shift: str, behind: int) -> Tensor:
    """Return x times a scale plus a shift, if they are given; ``behind`` axes follow theirs."""
    if op.has(scale):
        factor = _for_channels(op, op.tensor(scale, FP32), behind)
        x = op.emit("Mul", x, factor, type=x.type)
    if op.has(shift):
        added = _for_channels(op, op.tensor(shift, FP32), behind)
        x = op.emit("Add", x, added, type=x.type)
    return x


def _for_channels(op: Operator, x: Tensor, behind: int) -> Tensor:
    return op.reshape(x, (-1, *(1 for _ in range(behind)))) if behind else x


def _answer(op: Operator, y: Tensor) -> Value:
    """Return the normalised tensor in its stated type, alone or with statistics behind it."""
    if not isinstance(op.node.type, TupleType):
        return op.cast(y, op.output.dtype)
    dtype = op.outputs[0].dtype
    return (op.cast(y, dtype), *[_STATISTICS] * (len(op.outputs) - 1))
