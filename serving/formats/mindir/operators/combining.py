"""Slices combined one after the other, by index: extremes, quotients, and segments of rows.

Sources: the docstrings of ``mindspore.ops`` TensorScatterMax, TensorScatterMin, TensorScatterDiv,
UnsortedSegmentSum, UnsortedSegmentMax, UnsortedSegmentMin, UnsortedSegmentProd (2.0 to 2.10), and
https://onnx.ai/onnx/operators/onnx__ScatterND.html, which before opset 18 adds and multiplies
alone: everything else is a Scan over the slices.
"""

from __future__ import annotations

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.accumulation import Body, summable
from serving.formats.mindir.operators.elementary import is_whole
from serving.formats.mindir.operators.views import lengths_of, numbers
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import BOOL, INT64

_ROWS = {"TensorScatterMax": "Max", "TensorScatterMin": "Min", "TensorScatterDiv": "Div"}
_SEGMENTS = {
    "UnsortedSegmentSum": "add", "UnsortedSegmentProd": "mul", "UnsortedSegmentMax": "Max",
    "UnsortedSegmentMin": "Min",
}  # fmt: skip
_VECTOR = TensorType(INT64, (-1,))


def _one_by_one(op: Operator, operator: str, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """Combine the slice at each row of indices with its update; rows may name one slice often."""
    place = TensorType(INT64, (op.dims(indices)[-1],))
    part = TensorType(updates.dtype, None if updates.shape is None else updates.shape[1:])
    body = Body(op)
    state, at, update = (body.named(t) for t in (x.type, place, part))
    there = body("GatherND", state.name, at.name)
    # ScatterND takes several updates: here it is one, so both get an axis in front.
    front = numbers(op, 0).name
    both = [body("Unsqueeze", n, front) for n in (at.name, body(operator, there, update.name))]
    new = Tensor(body("ScatterND", state.name, *both), x.type)
    (found,) = op.emit_several(
        "Scan", x, indices, updates, types=[x.type], num_scan_inputs=2,
        body=body.graph([state, at, update], [new]),
    )  # fmt: skip
    return found


def _rest(op: Operator, x: Tensor, first: int) -> Tensor:
    """Return a tensor's lengths from an axis on."""
    ends = numbers(op, len(op.dims(x)))
    return op.emit("Slice", lengths_of(op, x), numbers(op, first), ends, type=_VECTOR)


def _in_a_row(op: Operator, x: Tensor, axes: int) -> Tensor:
    """Return a tensor whose first axes are one."""
    shape = op.emit("Concat", numbers(op, -1), _rest(op, x, axes), type=_VECTOR, axis=0)
    return op.emit("Reshape", x, shape, type=TensorType(x.dtype, (-1, *op.dims(x)[axes:])))


@converts(*_ROWS, arguments="x indices updates")
def scatter_rows(op: Operator) -> Tensor:
    """The slice at each row of indices and its update: the larger, smaller, or the quotient."""
    ran = summable(op.output.dtype)
    x, updates = op.tensor("x", ran), op.tensor("updates", ran)
    indices = op.tensor("indices", INT64)
    axes = len(op.dims(indices)) - 1
    rows = op.reshape(indices, (-1, op.static_dims(indices)[-1]))
    slices = _in_a_row(op, updates, axes)
    found = _one_by_one(op, _ROWS[op.node.operator], x, rows, slices)
    return op.cast(found, op.output.dtype)


def _start(op: Operator, operator: str) -> int | float:
    """Return what a segment without rows gives: 0, 1, or the type's least or greatest number."""
    if operator in ("add", "mul"):
        return 0 if operator == "add" else 1
    dtype = op.output.dtype.numpy
    limits = np.iinfo(dtype) if is_whole(op.output) else np.finfo(dtype)
    return limits.min if operator == "Max" else limits.max


@converts(*_SEGMENTS, arguments="x segments count")
def segments(op: Operator) -> Tensor:
    """The slices of each segment taken together; one of a segment below 0 is left out."""
    operator = _SEGMENTS[op.node.operator]
    ran = summable(op.output.dtype)
    stated = TensorType(ran, op.output.shape)
    x, segment = op.tensor("x", ran), op.tensor("segments", INT64)
    count = op.reshape(op.tensor("count", INT64), (1,))
    slices = _in_a_row(op, x, len(op.dims(segment)))
    flat = op.reshape(segment, (-1, 1))
    below = op.emit("Less", flat, numbers(op, 0), type=TensorType(BOOL, flat.shape))
    # What is left out goes to a row behind the last, which is then cut off.
    place = op.emit("Where", below, count, flat, type=flat.type)
    rows = op.emit("Add", count, numbers(op, 1), type=TensorType(INT64, (1,)))
    rest = _rest(op, slices, 1)
    shape = op.emit("Concat", rows, rest, type=_VECTOR, axis=0)
    start = op.constant(np.array(_start(op, operator), ran.numpy))
    row = TensorType(ran, (-1, *op.dims(slices)[1:]))
    empty = op.emit("Expand", start, shape, type=row)
    if operator in ("add", "mul"):
        found = op.emit("ScatterND", empty, place, slices, type=row, reduction=operator)
    else:
        found = _one_by_one(op, operator, empty, place, slices)
    kept = op.emit("Slice", found, numbers(op, 0), count, numbers(op, 0), type=stated)
    return op.cast(kept, op.output.dtype)
