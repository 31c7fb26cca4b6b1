"""Images whose channels come last, turned to ONNX's order (N, C, H, W) and their results back.

Sources: ``data_format`` of ``mindspore.ops`` Conv2D, MaxPool, BatchNorm (docstrings of 2.0 and
2.10): with NHWC the weight of a convolution has its channels last too, while windows, strides and
paddings are written as for NCHW.
"""

from __future__ import annotations

from typing import Any

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.matrix import FORMATS
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import DType

_FORWARD, _BACK = (0, 3, 1, 2), (0, 2, 3, 1)


def _channels_last(op: Operator) -> bool:
    """Return whether the images are NHWC; refuses what is neither that nor NCHW."""
    layout = op.choice("format|data_format", FORMATS, "NCHW")
    if layout not in ("NCHW", "NHWC"):
        op.refuse(f"works on images in the order {layout}; only NCHW and NHWC are converted")
    return layout == "NHWC"


def _turned(stated: TensorType, order: tuple[int, ...]) -> TensorType:
    if stated.shape is None or len(stated.shape) != 4:
        return TensorType(stated.dtype, None)
    return TensorType(stated.dtype, tuple(stated.shape[i] for i in order))


def images(op: Operator, name: str, dtype: DType | None = None) -> Tensor:
    """Return images, or the weight of a convolution, in the order NCHW."""
    x = op.tensor(name, dtype)
    if not _channels_last(op):
        return x
    if len(op.dims(x)) != 4:
        op.refuse("has images that are not of rank 4")
    return op.emit("Transpose", x, type=_turned(x.type, _FORWARD), perm=list(_FORWARD))


def emit_images(
    op: Operator, operator: str, *inputs: Tensor, stated: TensorType | None = None, **settings: Any
) -> Tensor:
    """Add an ONNX node that gives images; returns them in the order that the file states.

    ``stated`` is their type in the file, by default that of the node's one output.
    """
    stated = op.output if stated is None else stated
    if not _channels_last(op):
        return op.emit(operator, *inputs, type=stated, **settings)
    found = op.emit(operator, *inputs, type=_turned(stated, _FORWARD), **settings)
    return op.emit("Transpose", found, type=stated, perm=list(_BACK))
