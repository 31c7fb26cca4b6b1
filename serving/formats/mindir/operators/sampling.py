"""Signals, images and volumes sampled between their points: resizings of ``mint``, and grids.

Sources: ``mindspore.ops`` UpsampleBilinear2D, ..., ResizeLinear1D,
GridSampler2D (docstrings of 2.0 and 2.10; their settings' numbers from files of 2.10) and
https://onnx.ai/onnx/operators/onnx__Resize.html, onnx__GridSample.html.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import FP32, INT64

_LINEAR = ("UpsampleLinear1D", "UpsampleBilinear2D", "UpsampleTrilinear3D")
_INTERPOLATION = {0: "BILINEAR", 1: "NEAREST"}
_BEYOND = {0: "ZEROS", 1: "BORDER", 2: "REFLECTION"}
_COORDINATES = {1: "ALIGN_CORNERS", 2: "HALF_PIXEL"}


@converts(*_LINEAR, arguments="x output_size scales align_corners")
def upsample_linear(op: Operator) -> Tensor:
    """Between the nearest points of each axis: Resize."""
    return _resized(op, op.tensor("x"), mode="linear", **_aligned(op))


@converts("UpsampleBicubic2D", arguments="x output_size scales align_corners")
def upsample_bicubic(op: Operator) -> Tensor:
    """Between four points of each axis, by cubic convolution with a of -0.75: Resize."""
    return _resized(op, op.tensor("x"), mode="cubic", cubic_coeff_a=-0.75, **_aligned(op))


@converts("ResizeLinear1D", arguments="x size|output_size coordinate_transformation_mode")
def resize_linear(op: Operator) -> Tensor:
    """Between the two nearest points of the last axis: Resize."""
    where = op.choice("coordinate_transformation_mode", _COORDINATES, "ALIGN_CORNERS")
    return _resized(
        op, op.tensor("x"), mode="linear", coordinate_transformation_mode=where.lower(),
        size="size|output_size",
    )  # fmt: skip


@converts("ResizeBicubic", arguments="x size align_corners half_pixel_centers")
def resize_bicubic(op: Operator) -> Tensor:
    """MindSpore rounds places to 1/1024 of a pixel here, which Resize does not."""
    op.refuse("looks its weights up in a table of 1024 places, which ONNX's Resize does not")


@converts("GridSampler2D", arguments="x grid interpolation_mode padding_mode align_corners")
def grid_sample(op: Operator) -> Tensor:
    """Images at the points of a grid, whose (x, y) go from -1 to 1: GridSample."""
    x = op.tensor("x", FP32)
    found = op.emit(
        "GridSample", x, op.tensor("grid", FP32),
        type=TensorType(FP32, op.output.shape),
        mode=op.choice("interpolation_mode", _INTERPOLATION, "BILINEAR").lower(),
        padding_mode=op.choice("padding_mode", _BEYOND, "ZEROS").lower(),
        align_corners=int(op.flag("align_corners", False)),
    )  # fmt: skip
    return op.cast(found, op.output.dtype)


def _aligned(op: Operator) -> dict[str, Any]:
    """Return how places are counted: from corner to corner, or between middles of points."""
    aligned = op.flag("align_corners", False)
    return {"coordinate_transformation_mode": "align_corners" if aligned else "half_pixel"}


def _resized(op: Operator, x: Tensor, size: str = "output_size", **settings: Any) -> Tensor:
    """Emit a Resize of the axes behind batch and channels, to a size or by factors.

    One axis is resized as the lower of two, for ONNX tells engines of images and volumes only.
    """
    dims = op.dims(x)
    sizes, scales = None, None
    if op.has(size):
        kept = op.emit("Shape", x, end=2, type=TensorType(INT64, (2,)))
        parts = [kept, op.vector(size)]
        if len(dims) == 3:
            parts.insert(1, op.constant(np.array([1])))
        sizes = op.emit("Concat", *parts, type=TensorType(INT64, (max(len(dims), 4),)), axis=0)
    else:
        factors = op.numbers("scales")
        fill = (1.0,) * (max(len(dims), 4) - len(factors))
        scales = op.constant(np.array([*fill, *factors], np.float32))
    if len(dims) != 3:
        return op.emit("Resize", x, None, scales, sizes, **settings)
    place = op.constant(np.array([2]))
    image = op.emit("Unsqueeze", x, place, type=TensorType(x.dtype, (*dims[:2], 1, dims[2])))
    stated = TensorType(x.dtype, None)
    resized = op.emit("Resize", image, None, scales, sizes, type=stated, **settings)
    return op.emit("Squeeze", resized, place)
