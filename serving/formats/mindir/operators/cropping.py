"""Regions cut out of images and brought to one size.

Sources: ``mindspore.ops.CropAndResize`` (docstrings of 2.0 and 2.10), which describes the grid
of points, and MindSpore's answers on a CPU.
"""

from __future__ import annotations

import numpy as np

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.pieces import counted, equal_parts
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import FP32, INT64


@converts("CropAndResize", arguments="x boxes box_indices crop_size")
def crop_and_resize(op: Operator) -> Tensor:
    """Boxes (y1, x1, y2, x2) in parts of the image's height and width, less one, NHWC.

    The crop's points lie evenly from one edge of the box to the other; those outside of the image
    are ``extrapolation_value``. The images are taken as one list of pixels: image, row and column
    of a point make its place there.
    """
    method = op.text("method", "bilinear")
    if method not in ("bilinear", "nearest"):
        op.refuse(f"crops with the method '{method}'; bilinear and nearest are converted")
    crop = op.integers("crop_size")
    images = op.tensor("x", FP32)
    _, height, width, channels = op.dims(images)
    if len(crop) != 2 or min(height, width, channels, *crop) < 1:
        op.refuse("crops images whose size varies")
    y1, x1, y2, x2 = equal_parts(op, op.tensor("boxes", FP32), 4)
    rows = _points(op, y1, y2, height, crop[0])
    columns = _points(op, x1, x2, width, crop[1])
    upright = _upright(op, _inside(op, rows, height))
    inside = Formula(op, FP32)("And", upright, _inside(op, columns, width))
    pixels = _Pixels(op, images)
    found = pixels.nearest(rows, columns) if method == "nearest" else pixels.between(rows, columns)
    outside = Formula(op, FP32).number(op.number("extrapolation_value", 0.0))
    return op.emit("Where", _spread(op, inside), found, outside)


def _points(op: Operator, start: Tensor, end: Tensor, length: int, count: int) -> Tensor:
    """Return where the points of each box (a row) lie along an axis, in pixels.

    A single point lies in the middle, as in 2.10; 2.0 put it beyond the image.
    """
    calculate = Formula(op, FP32)
    if count == 1:
        return calculate("Mul", calculate("Add", start, end), 0.5 * (length - 1))
    step = calculate("Mul", calculate("Sub", end, start), length - 1)
    step = calculate("Div", step, count - 1)
    offset = calculate("Mul", counted(op, FP32, count), step)
    return calculate("Add", calculate("Mul", start, length - 1), offset)


def _inside(op: Operator, points: Tensor, length: int) -> Tensor:
    """Return whether points lie between the middles of the first and the last pixel."""
    check = Formula(op, FP32)
    inside = check(
        "And", check("GreaterOrEqual", points, 0), check("LessOrEqual", points, length - 1)
    )
    return _flat(op, inside)


def _flat(op: Operator, points: Tensor) -> Tensor:
    """Return points of the columns with an axis for the rows: (boxes, 1, columns)."""
    return _with_axis(op, points, 1)


def _upright(op: Operator, points: Tensor) -> Tensor:
    """Return points of the rows, made by ``_flat``, along the rows: (boxes, rows, 1)."""
    boxes, _, count = op.dims(points)
    stated = TensorType(points.dtype, (boxes, count, 1))
    return op.emit("Transpose", points, type=stated, perm=[0, 2, 1])


def _spread(op: Operator, x: Tensor) -> Tensor:
    """Return what is the same for all channels, with an axis for them."""
    return _with_axis(op, x, 3)


def _with_axis(op: Operator, x: Tensor, axis: int) -> Tensor:
    dims = op.dims(x)
    stated = TensorType(x.dtype, (*dims[:axis], 1, *dims[axis:]))
    return op.emit("Unsqueeze", x, op.constant(np.array([axis])), type=stated)


class _Pixels:
    """Images as one list of pixels, of which those of some boxes are taken."""

    def __init__(self, op: Operator, images: Tensor) -> None:
        _, self._height, self._width, channels = op.dims(images)
        self._op = op
        self._list = op.reshape(images, (-1, channels))
        self._real = Formula(op, FP32)
        self._whole = Formula(op, INT64)
        image = op.tensor("box_indices", INT64)
        self._image = op.reshape(image, (-1, 1, 1))

    def nearest(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the pixel nearest to each point; halves are rounded up."""
        return self._at(
            self._rounded("Floor", self._real("Add", rows, 0.5)),
            self._rounded("Floor", self._real("Add", columns, 0.5)),
        )

    def between(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return what lies at each point between the four pixels round it."""
        top, left = self._rounded("Floor", rows), self._rounded("Floor", columns)
        bottom, right = self._rounded("Ceil", rows), self._rounded("Ceil", columns)
        down = self._part(_upright(self._op, _flat(self._op, rows)), "Floor")
        along = self._part(_flat(self._op, columns), "Floor")
        above = self._mixed(self._at(top, left), self._at(top, right), along)
        below = self._mixed(self._at(bottom, left), self._at(bottom, right), along)
        return self._mixed(above, below, down)

    def _at(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the pixels at (boxes, rows) and (boxes, columns); outside ones are the edge's."""
        whole = self._whole
        row = _upright(self._op, _flat(self._op, self._kept(rows, self._height)))
        column = _flat(self._op, self._kept(columns, self._width))
        line = whole("Add", whole("Mul", self._image, self._height), row)
        place = whole("Add", whole("Mul", line, self._width), column)
        return self._op.emit(
            "Gather", self._list, place, type=TensorType(FP32, self._op.output.shape), axis=0
        )

    def _rounded(self, operator: str, points: Tensor) -> Tensor:
        return self._op.cast(self._real(operator, points), INT64)

    def _kept(self, places: Tensor, length: int) -> Tensor:
        return self._whole("Max", self._whole("Min", places, length - 1), 0)

    def _part(self, points: Tensor, operator: str) -> Tensor:
        return _spread(self._op, self._real("Sub", points, self._real(operator, points)))

    def _mixed(self, first: Tensor, second: Tensor, part: Tensor) -> Tensor:
        change = self._real("Mul", self._real("Sub", second, first), part)
        return self._real("Add", first, change)
