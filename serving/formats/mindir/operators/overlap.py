"""Boxes compared with each other and with the image they belong to.

Sources: ``mindspore.ops`` IOU, CheckValid (docstrings of 2.0 and 2.10); where they are silent,
MindSpore's answers on a CPU.
"""

from __future__ import annotations

import numpy as np

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.pieces import equal_parts
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import FP32


@converts("IOU", arguments="anchors truths")
def overlap(op: Operator) -> Tensor:
    """What each truth (row) and anchor (column) share, in parts of their union.

    ``mode`` iof takes parts of the truth's area instead. Boxes are (x1, y1, x2, y2) and hold both
    ends; float16 is computed as float32, in which no area overflows.
    """
    calculate = Formula(op, FP32)
    mode = op.text("mode", "iou")
    if mode not in ("iou", "iof"):
        op.refuse(f"has an unknown mode '{mode}'")
    anchors = op.tensor("anchors", FP32)
    place = op.constant(np.array([1]))
    truths = op.emit(
        "Unsqueeze", op.tensor("truths", FP32), place,
        type=TensorType(FP32, (op.dims(op.tensor("truths"))[0], 1, 4)),
    )  # fmt: skip
    first, last = equal_parts(op, anchors)
    first_truth, last_truth = equal_parts(op, truths)
    shared = calculate(
        "Sub", calculate("Min", last, last_truth), calculate("Max", first, first_truth)
    )
    common = _area(op, calculate("Max", calculate("Add", shared, 1), 0))
    whole = _area(op, calculate("Add", calculate("Sub", last_truth, first_truth), 1))
    if mode == "iou":
        anchor = _area(op, calculate("Add", calculate("Sub", last, first), 1))
        whole = calculate("Sub", calculate("Add", anchor, whole), common)
    found = calculate("Div", common, calculate("Add", whole, 1e-10))
    found = op.emit(
        "Squeeze", found, op.constant(np.array([2])), type=TensorType(FP32, op.output.shape)
    )
    return op.cast(found, op.output.dtype)


def _area(op: Operator, size: Tensor) -> Tensor:
    """Return width times height, in a last axis of length 1."""
    width, height = equal_parts(op, size)
    return Formula(op, FP32)("Mul", width, height)


@converts("CheckValid", arguments="boxes image")
def check_valid(op: Operator) -> Tensor:
    """Whether a box (x1, y1, x2, y2) lies in the image, given as (height, width, ratio).

    The image ends at ``height * ratio - 1`` and ``width * ratio - 1``.
    """
    calculate = Formula(op, FP32)
    first, last = equal_parts(op, op.tensor("boxes", FP32))
    height, width, ratio = equal_parts(op, op.tensor("image", FP32), 3)
    size = op.emit("Concat", width, height, type=TensorType(FP32, (2,)), axis=0)
    end = calculate("Sub", calculate("Mul", size, ratio), 1)
    margin = calculate("Min", first, calculate("Sub", end, last))
    least = op.emit(
        "ReduceMin", margin, type=TensorType(FP32, op.output.shape), axes=[-1], keepdims=0
    )
    return calculate("GreaterOrEqual", least, 0)
