"""The largest of windows together with their places.

Sources: ``mindspore.ops`` MaxPoolWithArgmax, MaxPoolWithArgmaxV2, MaxPool3DWithArgmax,
``mint.nn.functional.max_pool2d`` (docstrings of 2.0 and 2.10), MindSpore's answers on a CPU, and
https://onnx.ai/onnx/operators/onnx__MaxPool.html.
"""

from __future__ import annotations

import numpy as np

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.convolution import pair, require_nchw
from serving.formats.mindir.operators.volume_convolution import require_ncdhw, triple
from serving.formats.mindir.operators.windows import Windows, each_axis, fitted
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Absent, Tensor, Value
from serving.tensor import INT64

_ARGUMENTS = "x kernel_size strides pads dilation ceil_mode argmax_type"
_PAD_MODES = {1: "SAME", 2: "VALID"}


@converts("MaxPoolWithArgmax", arguments="x")
def max_pool_with_argmax(op: Operator) -> Value:
    """The largest of each window, and its place among all channels of its image.

    Its window is written (1, height, width, 1) although its images are NCHW.
    """
    require_nchw(op)
    kernel, strides = op.integers("kernel_size|ksize"), op.integers("strides")
    for window in (kernel, strides):
        if len(window) != 4 or window[0] != 1 or window[3] != 1:
            op.refuse("has a window that is not (1, height, width, 1)")
    mode = op.choice("pad_mode|padding", _PAD_MODES, "VALID")
    pads = [0] * 4 if mode == "VALID" else None
    size = op.outputs[0].shape
    windows = fitted(op, kernel[1:3], strides[1:3], pads=pads, size=size)
    return _largest(op, windows, over_channels=True)


@converts("MaxPoolWithArgmaxV2", "MaxPoolWithIndices", arguments=_ARGUMENTS)
def max_pool_with_indices(op: Operator) -> Value:
    """The largest of each window, and its place in its image counted row by row."""
    return _largest(op, _dilated(op))


@converts("MaxPoolWithMask", arguments=_ARGUMENTS)
def max_pool_with_mask(op: Operator) -> Value:
    """The largest of each window; the mask of bits that tells its place is not made."""
    return _largest(op, _dilated(op))[0], Absent("mask of the largest in each window")


@converts("MaxPool3DWithArgmax", arguments="x")
def max_pool_3d_with_argmax(op: Operator) -> Value:
    """The largest of each window, and its place in its volume counted row by row."""
    require_ncdhw(op)
    settings = ("ksize|kernel_size", "strides", "dilation", "pads")
    kernel, strides, dilations = (triple(op, op.integers(n, (1,))) for n in settings[:3])
    pads = each_axis(op, op.integers("pads", (0,)), 3)
    size = op.outputs[0].shape
    return _largest(op, fitted(op, kernel, strides, dilations, [*pads, *pads], size))


def _dilated(op: Operator) -> Windows:
    kernel = pair(op, op.integers("kernel_size"))
    strides = pair(op, op.integers("strides")) if op.has("strides") else kernel
    dilations = pair(op, op.integers("dilation", (1, 1)))
    pads = each_axis(op, op.integers("pads", (0,))[-2:], 2)
    return fitted(op, kernel, strides, dilations, [*pads, *pads], op.outputs[0].shape)


def _largest(op: Operator, windows: Windows, over_channels: bool = False) -> tuple[Tensor, Tensor]:
    """Emit a MaxPool; it counts places over the whole tensor, MindSpore within each channel."""
    x = op.tensor("x")
    value, place = op.outputs
    dims = op.dims(x)[-len(windows.kernel) - over_channels :]
    if min(dims) < 1:
        op.refuse("counts places in images whose channels vary")
    lacks_batch = len(op.dims(x)) == len(windows.kernel) + 1
    first = op.constant(np.array([0]))
    types = [value, TensorType(INT64, place.shape)]
    if lacks_batch:
        x = op.emit("Unsqueeze", x, first, type=TensorType(x.dtype, (1, *op.dims(x))))
        types = [TensorType(t.dtype, (1, *(t.shape or ()))) for t in types]
    largest, at = op.emit_several(
        "MaxPool", x, types=types, pads=windows.pads, dilations=windows.dilations,
        **windows.settings,
    )  # fmt: skip
    at = Formula(op, INT64)("Mod", at, int(np.prod(dims)))
    if lacks_batch:
        largest = op.emit("Squeeze", largest, first, type=value)
        at = op.emit("Squeeze", at, first, type=TensorType(INT64, place.shape))
    return largest, op.cast(at, place.dtype)
