"""Images of another size by taking the nearest point, at exactly the places that MindSpore takes.

ONNX's Resize divides by the factor where MindSpore multiplies by its inverse: on its way from
14 points to 8, ONNX Runtime takes point 6 where point 7 lies. So the places are computed here, in
MindSpore's own order and in float32, and gathered; Resize is left what both compute without
rounding, the doubling of images.

Sources: ``mindspore.ops`` ResizeNearestNeighbor, ResizeNearestNeighborV2, UpsampleNearest2D, ...
(docstrings of 2.0 and 2.10) and MindSpore's answers on a CPU.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.pieces import counted, length_of
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import FP32, INT64

_RESIZED = "x size align_corners half_pixel_centers"


@converts("ResizeNearestNeighbor", "ResizeNearestNeighborV2", arguments=_RESIZED)
def resize_nearest(op: Operator) -> Tensor:
    """The point at or before each place, or nearest to it if corners or middles are aligned."""
    aligned, centred = op.flag("align_corners", False), op.flag("half_pixel_centers", False)
    if aligned and centred:
        op.refuse("aligns both corners and middles of points")
    if centred and op.node.operator == "ResizeNearestNeighbor":
        op.refuse("sets half_pixel_centers, which MindSpore heeds on some devices only")
    size = op.integers("size")
    return _Nearest(op, size, aligned, centred).taken(op.tensor("x"))


@converts(
    "UpsampleNearest1D", "UpsampleNearest2D", "UpsampleNearest3D", arguments="x output_size scales"
)
def upsample_nearest(op: Operator) -> Tensor:
    """The point at or before each place; places are divided by the factors, if those are given."""
    x = op.tensor("x")
    if op.has("output_size"):
        return _Nearest(op, op.integers("output_size")).taken(x)
    size = (op.output.shape or ())[2:]
    factors = op.numbers("scales")
    if min((*size, *factors), default=0) <= 0 or len(size) != len(factors):
        op.refuse("has factors that do not make its size")
    return _Nearest(op, size, factors=factors).taken(x)


class _Nearest:
    """One resizing of the axes behind batch and channels."""

    def __init__(
        self,
        op: Operator,
        size: Sequence[int],
        aligned: bool = False,
        centred: bool = False,
        factors: Sequence[float] = (),
    ) -> None:
        self._op, self._size = op, size
        self._aligned, self._centred, self._factors = aligned, centred, factors
        self._real = Formula(op, FP32)

    def taken(self, x: Tensor) -> Tensor:
        """Return the points of x at the places of the new size."""
        dims = self._op.dims(x)
        if len(self._size) != len(dims) - 2 or min(self._size) < 1:
            self._op.refuse("resizes to a size that has not an axis for each of its input's")
        if self._doubles(dims[2:]):
            return self._doubled(x)
        for i, count in enumerate(self._size):
            if dims[i + 2] != count:
                x = self._along(x, i, count)
        return self._op.emit("Identity", x)

    def _doubles(self, dims: Sequence[int]) -> bool:
        """Return whether every axis grows by a power of two, which all compute exactly."""
        if self._aligned or self._factors or len(dims) != 2:
            return False
        pairs = zip(dims, self._size, strict=True)
        return all(n > 0 and m % n == 0 and (m // n) & (m // n - 1) == 0 for n, m in pairs)

    def _doubled(self, x: Tensor) -> Tensor:
        scales = [1, 1, *(m // n for n, m in zip(self._op.dims(x)[2:], self._size, strict=True))]
        factors = self._op.constant(np.array(scales, np.float32))
        return self._op.emit(
            "Resize", x, None, factors, mode="nearest", nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )  # fmt: skip

    def _along(self, x: Tensor, i: int, count: int) -> Tensor:
        """Return the points taken along one axis."""
        op, axis = self._op, i + 2
        places = op.emit(
            "Min",
            op.cast(self._places(x, i, count), INT64),
            Formula(op, INT64)("Sub", length_of(op, x, axis), 1),
            type=TensorType(INT64, (count,)),
        )
        dims = op.dims(x)
        stated = TensorType(x.dtype, (*dims[:axis], count, *dims[axis + 1 :]))
        return op.emit("Gather", x, places, type=stated, axis=axis)

    def _places(self, x: Tensor, i: int, count: int) -> Tensor:
        real, places = self._real, counted(self._op, FP32, count)
        if self._factors:
            scale = real.number(1.0 / self._factors[i])
            return real("Floor", real("Mul", places, scale))
        length = self._op.cast(length_of(self._op, x, i + 2), FP32)
        if self._aligned and count > 1:
            scale = real("Div", real("Sub", length, 1), count - 1)
            return real("Floor", real("Add", real("Mul", places, scale), 0.5))
        if self._centred:
            places = real("Add", places, 0.5)
        return real("Floor", real("Mul", places, real("Div", length, count)))
