"""Normalisation by lengths: of rows, along an axis, of neighbouring channels.

Sources: ``mindspore.ops`` RmsNorm, L2Normalize, LRN (docstrings of 2.0 and 2.10), MindSpore's
answers on a CPU, and https://onnx.ai/onnx/operators/onnx__LRN.html. All is computed in float32,
whatever the type of the input.
"""

from __future__ import annotations

import numpy as np

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.pieces import mean
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor, Value
from serving.tensor import FP32


@converts("RmsNorm", arguments="x gamma epsilon")
def rms_norm(op: Operator) -> Value:
    """The axes of gamma by their root mean square, and the inverse of that."""
    x = op.tensor("x", FP32)
    return _by_root_mean_square(op, x)


@converts("AddRmsNorm", arguments="x y gamma epsilon")
def add_rms_norm(op: Operator) -> Value:
    """A sum by its root mean square, the inverse of that, and the sum."""
    total = Formula(op, op.outputs[2].dtype)("Add", op.tensor("x"), op.tensor("y"))
    return (*_by_root_mean_square(op, op.cast(total, FP32)), total)


@converts("L2Normalize", arguments="x")
def l2_normalize(op: Operator) -> Tensor:
    """``x / sqrt(max(sum of squares along an axis, epsilon))``."""
    x, real = op.tensor("x", FP32), Formula(op, FP32)
    axes = op.constant(np.array(op.integers("axis", (0,)), np.int64))
    total = op.emit("ReduceSum", real("Mul", x, x), axes, type=TensorType(FP32, None), keepdims=1)
    length = real("Sqrt", real("Max", total, op.number("epsilon", 1e-4)))
    y = op.emit("Div", x, length, type=x.type)
    return op.cast(y, op.output.dtype)


@converts("LRN", arguments="x")
def local_response_normalization(op: Operator) -> Tensor:
    """Each channel by its neighbours, ``depth_radius`` to either side.

    MindSpore's alpha is for each square, ONNX's for the mean of all ``size`` of them.
    """
    region = op.text("norm_region", "ACROSS_CHANNELS")
    if region != "ACROSS_CHANNELS":
        op.refuse(f"normalises over the region {region}")
    size = 2 * op.integer("depth_radius", 5) + 1
    y = op.emit(
        "LRN", op.tensor("x", FP32), type=TensorType(FP32, op.output.shape), size=size,
        alpha=op.number("alpha", 1.0) * size, beta=op.number("beta", 0.5),
        bias=op.number("bias", 1.0),
    )  # fmt: skip
    return op.cast(y, op.output.dtype)


def _by_root_mean_square(op: Operator, x: Tensor) -> tuple[Tensor, Tensor]:
    real, gamma = Formula(op, FP32), op.tensor("gamma", FP32)
    axes = list(range(-len(op.dims(gamma)), 0))
    square = mean(op, op.emit("Mul", x, x, type=x.type), axes)
    root = real("Sqrt", real("Add", square, op.number("epsilon", 1e-6)))
    even = op.emit("Div", x, root, type=x.type)
    inverse = op.emit("Reciprocal", root, type=root.type)
    y = op.emit("Mul", even, gamma, type=x.type)
    return op.cast(y, op.outputs[0].dtype), op.cast(inverse, op.outputs[1].dtype)
