"""Means of windows as ``mint.nn`` writes them.

Sources: ``mindspore.mint.nn.functional`` avg_pool1d, avg_pool2d, avg_pool3d (2.10's definitions)
and https://onnx.ai/onnx/operators/onnx__AveragePool.html.
"""

from __future__ import annotations

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.windows import averaged, each_axis, fitted
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor

_ARGUMENTS = "x kernel_size stride padding ceil_mode count_include_pad divisor_override"


@converts("AvgPool1D", "AvgPool2D", "AvgPool3DExt", arguments=_ARGUMENTS)
def average_pool(op: Operator) -> Tensor:
    """The mean of each window: AveragePool, which wants the batch that a single image lacks."""
    x = op.tensor("x")
    count = {"AvgPool1D": 1, "AvgPool2D": 2, "AvgPool3DExt": 3}[op.node.operator]
    kernel = each_axis(op, op.integers("kernel_size"), count)
    strides = each_axis(op, op.integers("stride"), count) if op.has("stride") else kernel
    pads = each_axis(op, op.integers("padding", (0,)), count)
    windows = fitted(op, kernel, strides or kernel, pads=[*pads, *pads])
    divisor = op.integer("divisor_override") if op.has("divisor_override") else 0
    counts = op.flag("count_include_pad", True)
    if len(op.dims(x)) == count + 2:
        return averaged(op, x, windows, counts, divisor)
    first = op.constant(np.array([0]))
    batch = op.emit("Unsqueeze", x, first, type=TensorType(x.dtype, (1, *op.dims(x))))
    return op.emit("Squeeze", averaged(op, batch, windows, counts, divisor), first)
