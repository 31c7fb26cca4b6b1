"""Lengths of the axes of free tensors, where shape inference loses them.

Exporters cut tables of positions and masks to the length of the input and add them to the rows;
without this the sum's length would be one more unknown quantity, and could not be recognised.
"""

from __future__ import annotations

from typing import Callable

from serving.formats.batch_axis.broadcasting import UNARY, VARIADIC, common_dim
from serving.formats.batch_axis.size import ONE, TO_THE_END, ZERO, Kind, Size, Symbol
from serving.formats.batch_axis.step import Refusal, Step
from serving.formats.batch_axis.value import OpenDims


def free_dims(step: Step) -> list[OpenDims | None]:
    """Return what is known of the outputs' lengths; ``None`` where not even the rank is."""
    count = len(step.node.output)
    function = _DIMS.get(step.node.op_type)
    if step.node.domain not in ("", "ai.onnx"):
        return [None] * count
    try:
        if step.node.op_type == "Split":
            return [_split(step, i) for i in range(count)]
        first = None if function is None else function(step)
    except (Refusal, IndexError, ValueError):
        first = None  # an unknown rank, or a node that the engine will refuse
    return [first, *[None] * (count - 1)][:count]


def _split(step: Step, part: int) -> OpenDims:
    dims: list[Size | None] = list(step.dims(0))
    axis = step.axis(step.attribute("axis", 0), len(dims))
    lengths = step.attribute("split") or (step.integers(1) if step.has(1) else None)
    dims[axis] = Size(lengths[part]) if lengths else None
    return tuple(dims)


def _same(step: Step) -> OpenDims:
    return step.dims(0)


def _stretched(step: Step) -> OpenDims:
    shapes = [step.dims(i) for i in range(len(step.inputs))]
    rank = max(map(len, shapes))
    return tuple(
        common_dim([s[-back] for s in shapes if len(s) >= back]) for back in range(rank, 0, -1)
    )


def _slice(step: Step) -> OpenDims:
    dims: list[Size | None] = list(step.dims(0))
    starts, ends = step.value(1).known, step.value(2).known
    count = step.dims(1)[0].constant
    axes = step.axes(3)
    axes = list(range(count or 0)) if axes is None else axes
    strides = step.integers(4) if step.has(4) else [1] * len(axes)
    for i, raw in enumerate(axes):
        axis = step.axis(raw, len(dims))
        plain = strides is not None and strides[i] == 1 and starts is not None
        from_start = plain and starts is not None and starts.flat[i] == ZERO
        end: Size | None = None if ends is None else ends.flat[i]
        dims[axis] = _cut_length(step.dims(0)[axis], end) if from_start else None
    return tuple(dims)


def _cut_length(length: Size, end: Size | None) -> Size | None:
    """Return the length of ``[0:end]``: the end, unless the tensor ends before it."""
    if end is None or not end.is_size:
        return None
    if end == length or (end.constant is not None and end.constant >= TO_THE_END):
        return length
    limit = length.constant
    if limit is None or limit < 2:
        return None
    if end.constant is not None:
        return Size(min(limit, end.constant))
    return Size.of(Symbol(f"cut({length}, {end})", Kind.SIZE, end))


def _gather(step: Step) -> OpenDims:
    dims = step.dims(0)
    axis = step.axis(step.attribute("axis", 0), len(dims))
    return (*dims[:axis], *step.dims(1), *dims[axis + 1 :])


def _like_indices(step: Step) -> OpenDims:
    return step.dims(1)


def _range(step: Step) -> OpenDims:
    ends = [step.value(i).known for i in range(3)]
    start, limit, stride = (None if e is None else e.flat[0] for e in ends)
    counts_up = start == ZERO and stride == ONE and limit is not None and limit.is_size
    return (limit if counts_up else None,)


def _unsqueeze(step: Step) -> OpenDims | None:
    named = step.axes(1)
    if named is None:
        return None
    rank = step.rank(0) + len(named)
    added = {step.axis(a, rank) for a in named}
    rest = iter(step.dims(0))
    return tuple(ONE if i in added else next(rest) for i in range(rank))


def _squeeze(step: Step) -> OpenDims | None:
    named = step.axes(1)
    if named is None:
        return None
    gone = {step.axis(a, step.rank(0)) for a in named}
    return tuple(d for i, d in enumerate(step.dims(0)) if i not in gone)


def _transpose(step: Step) -> OpenDims:
    dims = step.dims(0)
    order = step.attribute("perm") or list(range(len(dims)))[::-1]
    return tuple(dims[i] for i in order)


def _shaped(step: Step) -> OpenDims | None:
    shape = step.value(0).known
    if shape is None:
        return None
    return tuple(s if s is not None and s.is_size else None for s in shape.flat)


_DIMS: dict[str, Callable[[Step], OpenDims | None]] = {
    "ConstantOfShape": _shaped, "Gather": _gather, "GatherElements": _like_indices,
    "Range": _range, "Slice": _slice,
    "Squeeze": _squeeze, "Transpose": _transpose, "Unsqueeze": _unsqueeze,
    "CastLike": _same, "DequantizeLinear": _same, "QuantizeLinear": _same,
    **dict.fromkeys(UNARY, _same), **dict.fromkeys(VARIADIC, _stretched),
}  # fmt: skip
