"""Images of another size by linear interpolation.

Sources: ``mindspore.ops`` ResizeBilinear, ResizeBilinearV2 (docstrings of 2.0 and 2.10) and
https://onnx.ai/onnx/operators/onnx__Resize.html.
"""

from __future__ import annotations

from typing import Any

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import INT64

_RESIZED = "x size align_corners half_pixel_centers"


@converts("ResizeBilinear", "ResizeBilinearV2", arguments=_RESIZED)
def resize_bilinear(op: Operator) -> Tensor:
    """Between the four nearest points, those beyond an edge being the edge's: Resize."""
    x = op.tensor("x", op.output.dtype)
    return _resized(op, x, mode="linear", coordinate_transformation_mode=_coordinates(op))


def _coordinates(op: Operator) -> str:
    aligned, centred = op.flag("align_corners", False), op.flag("half_pixel_centers", False)
    if aligned and centred:
        op.refuse("aligns both corners and centres")
    return "align_corners" if aligned else "half_pixel" if centred else "asymmetric"


def _resized(op: Operator, x: Tensor, **settings: Any) -> Tensor:
    """Emit a Resize to (height, width); images and channels stay as many as they are."""
    if len(op.dims(x)) != 4:
        op.refuse("resizes what is no stack of images")
    size = op.vector("size")
    shape = op.emit("Shape", x, end=2, type=TensorType(INT64, (2,)))
    sizes = op.emit("Concat", shape, size, type=TensorType(INT64, (4,)), axis=0)
    return op.emit("Resize", x, None, None, sizes, **settings)
