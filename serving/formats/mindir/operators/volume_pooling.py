"""Pooling over volumes in the order NCDHW.

Sources: ``mindspore.ops`` MaxPool3D, AvgPool3D (docstrings of 2.0 and 2.10), MindSpore's answers
on a CPU, and https://onnx.ai/onnx/operators/onnx__MaxPool.html, onnx__AveragePool.html.
"""

from __future__ import annotations

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.volume_convolution import (
    begins_and_ends,
    require_ncdhw,
    triple,
)
from serving.formats.mindir.operators.windows import Windows, averaged, fitted
from serving.formats.mindir.registry import converts
from serving.formats.mindir.value import Tensor

_PAD_MODES = {0: "PAD", 1: "SAME", 2: "VALID", 3: "CALCULATED"}
"""``CALCULATED`` is what a file says for a ``pad_mode`` of ``pad``."""


@converts("MaxPool3D", arguments="x")
def max_pool_3d(op: Operator) -> Tensor:
    """The largest of each window: MaxPool."""
    windows = _windows(op)
    return op.emit("MaxPool", op.tensor("x"), pads=windows.pads, **windows.settings)


@converts("AvgPool3D", arguments="x")
def average_pool_3d(op: Operator) -> Tensor:
    """The mean of each window: AveragePool."""
    windows = _windows(op)
    counts = op.flag("count_include_pad", True)
    return averaged(op, op.tensor("x"), windows, counts, op.integer("divisor_override", 0))


def _windows(op: Operator) -> Windows:
    require_ncdhw(op)
    kernel = triple(op, op.integers("kernel_size"))
    strides = triple(op, op.integers("strides", (1,)))
    mode = op.choice("pad_mode", _PAD_MODES, "VALID")
    if mode == "SAME":
        return fitted(op, kernel, strides)
    pads = [0] * 6 if mode == "VALID" else begins_and_ends(op, op.integers("pad_list", (0,)))
    return fitted(op, kernel, strides, pads=pads)
