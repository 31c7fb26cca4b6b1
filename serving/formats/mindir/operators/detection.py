"""Boxes of object detection: decoding and encoding, suppression, pooling of regions.

Sources: ``mindspore.ops`` BoundingBoxDecode, BoundingBoxEncode, NMSWithMask, ROIAlign (docstrings
of 2.0 and 2.10); where they are silent, MindSpore's answers on a CPU.
https://onnx.ai/onnx/operators for what they become.
"""

from __future__ import annotations

import math
from typing import Sequence

import numpy as np
import onnx

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor, Value
from serving.tensor import BOOL, FP32, INT32, INT64, DType


@converts("BoundingBoxDecode", arguments="anchors deltas")
def bounding_box_decode(op: Operator) -> Tensor:
    """Boxes from anchors (x1, y1, x2, y2) and changes (dx, dy, dw, dh), cut to the image.

    ``centre = anchor's centre + its size * d``, ``size = its size * exp(d)``, where sizes count
    both ends (``x2 - x1 + 1``) and ``|dw|, |dh| <= |log(wh_ratio_clip)|``. The lower and upper
    limits are 0 and ``max_shape``, which is (height, width).
    """
    anchors, deltas = op.tensor("anchors", FP32), op.tensor("deltas", FP32)
    means, stds = op.numbers("means", (0.0,) * 4), op.numbers("stds", (1.0,) * 4)
    height, width = op.integers("max_shape")
    most = abs(math.log(op.number("wh_ratio_clip", 0.016)))
    first, last = _columns(op, anchors, (0, 1)), _columns(op, anchors, (2, 3))
    half = _numbers(op, 0.5)
    size = _two(op, "Add", _two(op, "Sub", last, first), _numbers(op, 1))
    centre = _two(op, "Mul", _two(op, "Add", first, last), half)
    change = _two(op, "Add", _two(op, "Mul", deltas, _numbers(op, stds)), _numbers(op, means))
    shift, growth = _columns(op, change, (0, 1)), _columns(op, change, (2, 3))
    limits = [op.constant(np.array(v, "float32")) for v in (-most, most)]
    growth = op.emit("Clip", growth, *limits, type=growth.type)
    grown = _two(op, "Mul", size, op.emit("Exp", growth, type=growth.type))
    centre = _two(op, "Add", centre, _two(op, "Mul", size, shift))
    reach = _two(op, "Mul", _two(op, "Sub", grown, _numbers(op, 1)), half)
    corners = op.emit(
        "Concat", _two(op, "Sub", centre, reach), _two(op, "Add", centre, reach),
        type=TensorType(FP32, op.output.shape), axis=1,
    )  # fmt: skip
    inside = _two(op, "Max", corners, _numbers(op, 0))
    cut = _two(op, "Min", inside, _numbers(op, (width, height, width, height)))
    return op.cast(cut, op.output.dtype)


@converts("BoundingBoxEncode", arguments="anchors truths")
def bounding_box_encode(op: Operator) -> Tensor:
    """The changes (dx, dy, dw, dh) from anchors to boxes, less ``means``, by ``stds``.

    ``d = (centre - anchor's centre) / its size``, ``d = log(size / its size)``, where sizes count
    both ends, as BoundingBoxDecode undoes.
    """
    means, stds = op.numbers("means", (0.0,) * 4), op.numbers("stds", (1.0,) * 4)
    half = _numbers(op, 0.5)
    middles, sizes = [], []
    for name in ("anchors", "truths"):
        boxes = op.tensor(name, FP32)
        first, last = _columns(op, boxes, (0, 1)), _columns(op, boxes, (2, 3))
        middles.append(_two(op, "Mul", _two(op, "Add", first, last), half))
        sizes.append(_two(op, "Add", _two(op, "Sub", last, first), _numbers(op, 1)))
    shift = _two(op, "Div", _two(op, "Sub", middles[1], middles[0]), sizes[0])
    ratio = _two(op, "Div", sizes[1], sizes[0])
    growth = op.emit("Log", ratio, type=ratio.type)
    stated = TensorType(FP32, op.output.shape)
    change = op.emit("Concat", shift, growth, type=stated, axis=1)
    away = _two(op, "Sub", change, _numbers(op, means))
    return op.cast(_two(op, "Div", away, _numbers(op, stds)), op.output.dtype)


@converts("NMSWithMask", arguments="boxes")
def nms_with_mask(op: Operator) -> Value:
    """Boxes (x1, y1, x2, y2, score) by falling score, their places, and which remain.

    The places are 0, 1, ... in the new order. A box falls to one before it that remains and
    overlaps it by more than ``iou_threshold``. Of equal scores MindSpore takes the last first when
    all are equal, and says nothing of others: so the boxes are turned round, and TopK takes the
    first of equals. Each then gets its place's rank as its score, so that NonMaxSuppression keeps
    to this order. ONNX turns a box round whose ends are exchanged, to MindSpore it covers nothing:
    so it is made empty first.
    """
    kinds = op.outputs
    threshold = op.number("iou_threshold", 0.5)
    if not 0 <= threshold <= 1:
        op.refuse(f"suppresses overlaps above {threshold:g}, which is no part of 1")
    given = op.tensor("boxes", FP32)
    count = op.static_dims(given)[0]
    boxes = op.emit("Gather", given, _places(op, count, INT64), type=given.type, axis=0)
    many = op.constant(np.array([count], np.int64))
    scores = _columns(op, boxes, (4,))
    order = op.emit_several(
        "TopK", op.emit("Reshape", scores, op.constant(np.array([-1]))), many,
        types=[TensorType(FP32, (count,)), TensorType(INT64, (count,))],
    )[1]  # fmt: skip
    sorted_boxes = op.emit("Gather", boxes, order, type=boxes.type, axis=0)
    starts, ends = _columns(op, sorted_boxes, (0, 1)), _columns(op, sorted_boxes, (2, 3))
    corners = op.emit(
        "Concat", starts, _two(op, "Max", starts, ends), type=TensorType(FP32, (count, 4)), axis=1
    )
    kept = op.emit(
        "NonMaxSuppression",
        op.emit("Unsqueeze", corners, op.constant(np.array([0]))),
        op.emit("Unsqueeze", _places(op, count, FP32), op.constant(np.array([0, 1]))),
        many,
        op.constant(np.array([threshold], "float32")),
        type=TensorType(INT64, (-1, 3)),
    )
    rows = op.emit("Gather", kept, op.constant(np.array(2)), type=TensorType(INT64, (-1,)), axis=1)
    none = _filled(op, many, count, 0)
    ones = _filled(op, op.emit("Shape", rows, type=TensorType(INT64, (1,))), -1, 1)
    marked = op.emit("ScatterElements", none, rows, ones, type=none.type, axis=0)
    places = op.cast(_places(op, count, INT64, falling=False), kinds[1].dtype)
    return op.cast(sorted_boxes, kinds[0].dtype), places, op.cast(marked, BOOL)


@converts("ROIAlign", arguments="features rois")
def roi_align(op: Operator) -> Tensor:
    """The mean of bilinear samples in each cell of each region (image, x1, y1, x2, y2): RoiAlign.

    ``roi_end_mode`` 1 counts both ends of a region and lets it be smaller than a cell; ONNX does
    the latter only in the mode that also shifts by half a pixel, which is taken back before.
    """
    features, rois = op.tensor("features", FP32), op.tensor("rois", FP32)
    scale = op.number("spatial_scale")
    mode, samples = op.integer("roi_end_mode", 1), op.integer("sample_num", 2)
    if samples < 1:
        op.refuse("chooses the number of samples by the region's size, otherwise than ONNX does")
    if op.dims(rois)[-1] != 5:
        op.refuse("has regions without the number of their image")
    if mode not in (0, 1):
        op.refuse(f"has a roi_end_mode of {mode}")
    boxes = _columns(op, rois, (1, 2, 3, 4))
    if mode == 1:
        shift = 0.5 / scale
        boxes = _two(op, "Add", boxes, _numbers(op, (shift, shift, shift + 1, shift + 1)))
    images = op.emit(
        "Gather", rois, op.constant(np.array(0)), type=TensorType(FP32, op.dims(rois)[:1]), axis=1
    )
    found = op.emit(
        "RoiAlign", features, boxes, op.cast(images, INT64),
        type=TensorType(FP32, op.output.shape),
        mode="avg", spatial_scale=scale, sampling_ratio=samples,
        output_height=op.integer("pooled_height"), output_width=op.integer("pooled_width"),
        coordinate_transformation_mode="half_pixel" if mode else "output_half_pixel",
    )  # fmt: skip
    return op.cast(found, op.output.dtype)


def _columns(op: Operator, x: Tensor, columns: Sequence[int]) -> Tensor:
    """Return columns of a matrix."""
    stated = TensorType(x.dtype, (op.dims(x)[0], len(columns)))
    return op.emit("Gather", x, op.constant(np.array(columns, np.int64)), type=stated, axis=1)


def _two(op: Operator, operator: str, x: Tensor, y: Tensor) -> Tensor:
    return op.emit(operator, x, y, type=x.type)


def _numbers(op: Operator, values: float | Sequence[float]) -> Tensor:
    return op.constant(np.array(values, "float32"))


def _places(op: Operator, count: int, dtype: DType, falling: bool = True) -> Tensor:
    """Return ``count - 1, ..., 1, 0``, or the same rising."""
    start, end, step = (count - 1, -1, -1) if falling else (0, count, 1)
    limits = [op.constant(np.array(n, dtype.numpy)) for n in (start, end, step)]
    return op.emit("Range", *limits, type=TensorType(dtype, (count,)))


def _filled(op: Operator, shape: Tensor, count: int, value: int) -> Tensor:
    """Return an INT32 tensor of ``count`` (or a varying number of) equal elements."""
    content = onnx.numpy_helper.from_array(np.array([value], "int32"))
    return op.emit("ConstantOfShape", shape, type=TensorType(INT32, (count,)), value=content)
