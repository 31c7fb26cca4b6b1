"""Pooling over images.

Sources: ``mindspore.ops.MaxPool``, ``AvgPool`` (docstrings of 1.0, 2.0 and 2.10) and
https://onnx.ai/onnx/operators/onnx__MaxPool.html, onnx__AveragePool.html.
"""

from __future__ import annotations

from typing import Any

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.convolution import pair
from serving.formats.mindir.operators.image_layout import emit_images, images
from serving.formats.mindir.registry import converts
from serving.formats.mindir.value import Tensor

_PAD_MODES = {1: "SAME", 2: "VALID"}
_AUTO_PAD = {"SAME": "SAME_UPPER", "VALID": "VALID"}


def _window(op: Operator) -> dict[str, Any]:
    """Return the attributes that ONNX's poolings share; 1.0 has its own names for two."""
    mode = op.choice("pad_mode|padding", _PAD_MODES, "VALID")
    return {
        "kernel_shape": pair(op, op.integers("kernel_size|ksize")),
        "strides": pair(op, op.integers("strides", (1, 1))),
        "auto_pad": _AUTO_PAD[mode],
    }


@converts("MaxPool", arguments="x kernel_size strides pad_mode format")
def max_pool(op: Operator) -> Tensor:
    """The largest of each window: MaxPool."""
    return emit_images(op, "MaxPool", images(op, "x"), **_window(op))


@converts("AvgPool", arguments="x kernel_size strides pad_mode format")
def average_pool(op: Operator) -> Tensor:
    """The mean of each window, padding not counted: AveragePool."""
    return emit_images(op, "AveragePool", images(op, "x"), count_include_pad=0, **_window(op))
