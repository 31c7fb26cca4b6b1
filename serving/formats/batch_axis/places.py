"""Where a row's own entries lie among those of all rows, as far as the graph computes it itself.

PyTorch writes ``mask[rows[:, None], columns]`` as a look-up in the list of all rows' entries, by
``row * columns + column``. That finds a row's own entries as long as every column is one.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from serving.formats.batch_axis.size import ONE, ZERO, Size
from serving.formats.batch_axis.step import Step
from serving.formats.batch_axis.value import Place, Value

_MOVES = frozenset(
    ("Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
)
"""Operators that put elements elsewhere within their rows and change none."""
_WHOLE = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)
_FOUND = (Place.NUMBER, Place.OWN)


@dataclass(frozen=True)
class Found:
    """What the elements of a tensor have to do with the place of their rows (``Value``)."""

    place: Place
    span: Size | None = None
    reach: Size | None = None


def passed_place(step: Step) -> Found:
    """Return what an output has to do with the place of its rows, going by the inputs."""
    if all(v.place is Place.NONE for v in step.given()):
        return Found(Place.NONE, reach=_kept_reach(step))
    first = step.value(0)
    if first.place in _FOUND and _moves(step):
        return Found(first.place, first.span, first.reach)
    return Found(Place.MIXED)


def computed_place(step: Step) -> Found | None:
    """Recognise where the entries of a row begin, and the place of one of them."""
    if step.node.op_type not in ("Add", "Mul") or len(step.inputs) != 2:
        return None
    first, other = step.value(0), step.value(1)
    if first.place is Place.NONE:
        first, other = other, first
    if step.node.op_type == "Mul" and first.place is Place.NUMBER:
        length = _length(other)
        return None if length is None else Found(Place.OWN, length, ONE)
    if step.node.op_type == "Add" and first.place is Place.OWN:
        reach = _sum(first.reach, _reach(other))
        return None if reach is None else Found(Place.OWN, first.span, reach)
    return None


def free_reach(step: Step) -> Size | None:
    """Return what all elements of a free output are below, where they count up from 0."""
    if step.node.domain not in ("", "ai.onnx"):
        return None
    if step.node.op_type == "Range":
        ends = [step.value(i).known for i in range(3)]
        start, limit, stride = (None if e is None else e.flat[0] for e in ends)
        counts_up = start == ZERO and stride == ONE and limit is not None and limit.is_size
        return limit if counts_up else None
    return _kept_reach(step)


def fits(reach: Size | None, span: Size | None) -> bool:
    """Return whether what is below ``reach`` is one of ``span`` entries."""
    if reach is None or span is None:
        return False
    most, count = reach.constant, span.constant
    return reach == span or (most is not None and count is not None and most <= count)


def _kept_reach(step: Step) -> Size | None:
    return step.value(0).reach if step.inputs and _moves(step) else None


def _moves(step: Step) -> bool:
    operator = step.node.op_type
    return operator in _MOVES or (operator == "Cast" and step.attribute("to") in _WHOLE)


def _length(value: Value) -> Size | None:
    """Return a free number that can only be a length."""
    if value.known is None or value.known.size != 1:
        return None
    number: Size | None = value.known.flat[0]
    return None if number is None or number.has_batch or not number.is_size else number


def _reach(value: Value) -> Size | None:
    """Return what all elements, whole numbers from 0, are below; they may differ by the row."""
    if value.place is not Place.NONE or value.counts:
        return None
    if value.known is None or value.real:
        return value.reach
    numbers = [None if e is None else e.constant for e in value.known.flat]
    whole = [n for n in numbers if n is not None and n >= 0]
    return Size(max(whole) + 1) if whole and len(whole) == len(numbers) else value.reach


def _sum(reach: Size | None, other: Size | None) -> Size | None:
    """Return what the sum of two numbers is below, by what each is below."""
    if reach is None or other is None:
        return None
    if ONE in (reach, other):
        return other if reach == ONE else reach
    most, more = reach.constant, other.constant
    return None if most is None or more is None else Size(most + more - 1)
