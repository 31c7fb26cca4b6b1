"""Normalisation with statistics that were learned, or of the tensor itself.

Sources: ``mindspore.ops.BatchNorm``, ``LayerNorm`` (docstrings of 2.0 and 2.10) and
https://onnx.ai/onnx/operators/onnx__BatchNormalization.html, onnx__LayerNormalization.html.
"""

from __future__ import annotations

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.image_layout import emit_images, images
from serving.formats.mindir.registry import converts
from serving.formats.mindir.value import Absent, Value
from serving.tensor import FP16, FP32


@converts("BatchNorm", arguments="x scale bias mean variance is_training epsilon momentum format")
def batch_norm(op: Operator) -> Value:
    """BatchNormalization with the learned mean and variance; gives a tuple of five."""
    if op.flag("is_training", False):
        op.refuse("normalises with the statistics of its batch; export the network for inference")
    stated = op.outputs[0]
    learned = [op.tensor(name, FP32) for name in ("scale", "bias", "mean", "variance")]
    x = images(op, "x")
    if x.dtype is FP16:
        learned = [op.cast(t, FP16) for t in learned]
    epsilon = op.number("epsilon", 1e-5)
    y = emit_images(op, "BatchNormalization", x, *learned, stated=stated, epsilon=epsilon)
    return (y, *[Absent("statistics of a batch")] * (len(op.outputs) - 1))


@converts(
    "LayerNorm", "LayerNormV3",
    arguments="x gamma beta begin_norm_axis begin_params_axis epsilon",
)  # fmt: skip
def layer_norm(op: Operator) -> Value:
    """LayerNormalization over the axes from ``begin_norm_axis`` on; gives a tuple of three."""
    x = op.tensor("x")
    rank = len(op.dims(x))
    axis = op.axis(op.integer("begin_norm_axis", 1), rank)
    if op.axis(op.integer("begin_params_axis", 1), rank) != axis:
        op.refuse("scales other axes than it normalises")
    scale, shift = op.tensor("gamma", x.dtype), op.tensor("beta", x.dtype)
    y = op.emit(
        "LayerNormalization", x, scale, shift,
        type=op.outputs[0], axis=axis, epsilon=op.number("epsilon", 1e-7),
    )  # fmt: skip
    return (y, *[Absent("mean and variance of a row")] * (len(op.outputs) - 1))
