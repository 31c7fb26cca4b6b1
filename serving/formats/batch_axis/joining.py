"""Operators that cut, join, repeat and stretch along axes."""

from __future__ import annotations

from serving.formats.batch_axis.broadcasting import common_dim
from serving.formats.batch_axis.size import (
    ONE,
    ROW_COUNT,
    TO_THE_END,
    ZERO,
    Kind,
    Size,
    derived,
)
from serving.formats.batch_axis.step import Step, is_one, rule
from serving.formats.batch_axis.value import Draft, Elements, OpenDims, Place, Rows


@rule("Concat")
def concat(step: Step) -> Draft:
    """Every part must carry the batch, in the same axis, and be joined along another."""
    rows, rank = step.rows(0), step.rank(0)
    axis = step.axis(step.attribute("axis", 1), rank)
    if axis == rows.axis:
        step.refuse(f"joins tensors along axis {axis}, the batch")
    total: Size | None = Size(0)
    dims: list[Size | None] = list(step.dims(0))
    for i in range(len(step.inputs)):
        if step.rows(i) != rows or step.rank(i) != rank:
            step.refuse("joins inputs whose rows are laid out differently")
        part = step.dims(i)[axis].constant
        known = None if total is None else total.constant
        total = None if part is None or known is None else Size(known + part)
    dims[axis] = total if len(step.inputs) > 1 else dims[axis]
    return Draft(rows, tuple(dims), place=_index_place(step, axis))


def _index_place(step: Step, axis: int) -> Place | None:
    """Recognise tuples of the row's own number and others, as ``GatherND`` takes them."""
    first, *others = step.given()
    if axis != step.rank(0) - 1 or not is_one(step.dims(0)[axis]):
        return None
    is_index = first.place is Place.NUMBER and all(v.place is Place.NONE for v in others)
    return Place.INDEX if is_index and others else None


@rule("Split")
def split(step: Step) -> list[Draft]:
    """The parts are cut along an axis other than the batch."""
    step.require_free(1)
    rows = step.rows(0)
    axis = step.axis(step.attribute("axis", 0), step.rank(0))
    if axis == rows.axis:
        step.refuse(f"splits axis {axis}, the batch")
    lengths = step.attribute("split") or (step.integers(1) if step.has(1) else None)
    drafts = []
    for i in range(len(step.node.output)):
        dims: list[Size | None] = list(step.dims(0))
        dims[axis] = Size(lengths[i]) if lengths and i < len(lengths) else None
        drafts.append(Draft(rows, tuple(dims)))
    return drafts


@rule("Slice", sizes=(2,))
def cut(step: Step) -> Draft:
    """The batch must be left whole; what is cut elsewhere must not depend on it."""
    if step.value(0).rows is None:
        step.refuse("cuts a tensor that all rows share by the size of the batch")
    step.require_free(1, 3, 4)
    rows, rank = step.rows(0), step.rank(0)
    axes = step.axes(3) or list(range(_slice_count(step)))
    axes = [step.axis(a, rank) for a in axes]
    starts = step.attribute("starts") or step.integers(1)
    steps = step.integers(4) if step.has(4) else [1] * len(axes)
    dims: list[Size | None] = list(step.dims(0))
    for i, axis in enumerate(axes):
        end = _slice_end(step, i)
        start = starts[i] if starts else None
        stride = steps[i] if steps else None
        whole = start == 0 and stride == 1 and _reaches_end(end, step.dims(0)[axis])
        if axis == rows.axis and not whole:
            step.refuse(f"takes a part of axis {axis}, the batch")
        if axis != rows.axis and not (end is None or not end.has_batch):
            step.refuse(f"cuts axis {axis} by the size of the batch")
        if not whole:
            dims[axis] = _part(step.dims(0)[axis], start, end, stride)
    return Draft(rows, tuple(dims))


def _part(length: Size, start: int | None, end: Size | None, stride: int | None) -> Size | None:
    """Return the length of a part where all that decides it is a plain number."""
    count = length.constant
    stop = None if end is None else end.constant
    if count is None or start is None or stop is None or not stride or stride < 0:
        return None
    return Size(len(range(*slice(start, stop, stride).indices(count))))


def _slice_count(step: Step) -> int:
    starts = step.attribute("starts")
    if starts is not None:
        return len(starts)
    length = step.dims(1)[0].constant if step.rank(1) == 1 else None
    if length is None:
        step.refuse("cuts axes that are only known while it runs")
    return length


def _slice_end(step: Step, index: int) -> Size | None:
    """Return where a cut ends, ``None`` if it is not known (and then it is free)."""
    ends = step.attribute("ends")
    if ends is not None:
        return Size(ends[index])
    value = step.value(2)
    if value.known is None:
        return None
    end: Size | None = value.known.flat[index]
    if end is None:
        step.refuse("cuts at a place that depends on the size of the batch")
    return end


def _reaches_end(end: Size | None, length: Size) -> bool:
    if end is None:
        return False
    return end == length or (end.constant is not None and end.constant >= TO_THE_END)


@rule("Pad")
def pad(step: Step) -> Draft:
    """Nothing may be put before or after the rows."""
    step.require_free(1, 2, 3)
    rows, rank = step.rows(0), step.rank(0)
    axes = [step.axis(a, rank) for a in (step.axes(3, "") or range(rank))]
    pads = _pads(step, len(axes))
    dims: list[Size | None] = list(step.dims(0))
    if rows.axis in axes and pads is None:
        step.refuse("pads by numbers that are only computed while it runs")
    for i, axis in enumerate(axes):
        before, after = (None, None) if pads is None else (pads[i], pads[i + len(axes)])
        if axis != rows.axis:
            dims[axis] = _padded(step.dims(0)[axis], before, after)
        elif (before, after) != (ZERO, ZERO):
            step.refuse(f"pads axis {rows.axis}, the batch")
    return Draft(rows, tuple(dims))


def _pads(step: Step, axes: int) -> list[Size | None] | None:
    """Return what is put before each axis, then after each, as far as it is known."""
    listed = step.attribute("pads")
    if listed is not None:
        return [Size(n) for n in listed]
    known = step.value(1).known
    return None if known is None or known.size != 2 * axes else list(known.flat)


def _padded(length: Size, before: Size | None, after: Size | None) -> Size | None:
    if before is None or after is None:
        return None
    if before == ZERO and after == ZERO:
        return length
    plain = length.constant, before.constant, after.constant
    if None not in plain:
        return Size(sum(n for n in plain if n is not None))
    return derived("padded", (length, before, after), Kind.SIZE)


@rule("Expand", sizes=(1,))
def expand(step: Step) -> Draft:
    """Stretches to a shape; a free tensor stretched along the batch is the same in every row."""
    target = step.value(1).known
    if target is None:
        step.refuse("stretches to a shape that is only computed while it runs")
    wanted = [_clear(step, size) for size in target.flat]
    rank = max(step.rank(0), len(wanted))
    wanted = [ONE] * (rank - len(wanted)) + wanted
    own = [ONE] * (rank - step.rank(0)) + list(step.dims(0))
    batch = [i for i, s in enumerate(wanted) if s.has_batch]
    if step.value(0).rows is not None:
        return _expand_rows(step, own, wanted, batch)
    if len(batch) != 1:
        step.refuse("stretches a tensor along the batch in two axes")
    (axis,) = batch
    inner = wanted[axis].over(ROW_COUNT)
    if not is_one(own[axis]) or inner is None or inner.has_batch or not inner.is_size:
        step.refuse(f"stretches axis {axis} of length {own[axis]} to {wanted[axis]}")
    dims = _stretched(own, wanted)
    dims[axis] = wanted[axis]
    return Draft(Rows(axis, ONE, inner), tuple(dims))


def _clear(step: Step, size: Size | None) -> Size:
    if size is None:
        step.refuse("stretches by a number that depends on the size of the batch")
    return size


def _stretched(own: list[Size], wanted: list[Size]) -> list[Size | None]:
    return [common_dim([a, b]) if b.is_size else None for a, b in zip(own, wanted, strict=True)]


def _expand_rows(step: Step, own: list[Size], wanted: list[Size], batch: list[int]) -> Draft:
    rows = step.rows(0)
    axis = rows.axis + len(own) - step.rank(0)
    if any(i != axis for i in batch):
        step.refuse("stretches another axis by the size of the batch")
    if wanted[axis] not in (ONE, rows.size):
        step.refuse(f"stretches the batch ({rows.size}) to {wanted[axis]}")
    dims = _stretched(own, wanted)
    dims[axis] = rows.size
    return Draft(rows.at(axis), tuple(dims))


@rule("Tile", sizes=(1,))
def tile(step: Step) -> Draft:
    """Repeats whole axes; a free tensor may be repeated once for each row."""
    repeats = step.value(1).known
    if repeats is None or repeats.size != step.rank(0):
        step.refuse("repeats by numbers that are only computed while it runs")
    dims = list(step.dims(0))
    if step.value(0).rows is None:
        return _tile_free(step, dims, repeats)
    rows = step.rows(0)
    own: Size | None = repeats.flat[rows.axis]
    if own is None or own.has_batch or not own.is_size or own == Size(0):
        step.refuse(f"repeats axis {rows.axis}, the batch")
    if any(r is None or r.has_batch for r in repeats.flat):
        step.refuse("repeats another axis by the size of the batch")
    repeated = Rows(rows.axis, own * rows.outer, rows.inner)
    result: list[Size | None] = [
        d * r if r.is_size else None for d, r in zip(dims, repeats.flat, strict=True)
    ]
    result[rows.axis] = repeated.size
    return Draft(repeated, tuple(result))


def _tile_free(step: Step, dims: list[Size], repeats: Elements) -> Draft:
    batch = [i for i, r in enumerate(repeats.flat) if r is None or r.has_batch]
    if len(batch) != 1 or repeats.flat[batch[0]] != ROW_COUNT:
        step.refuse("repeats a tensor by a number that is not the size of the batch")
    (axis,) = batch
    rows = Rows(axis, ONE, dims[axis])
    result: OpenDims = tuple(
        rows.size if i == axis else (d * r if r.is_size else None)
        for i, (d, r) in enumerate(zip(dims, repeats.flat, strict=True))
    )
    return Draft(rows, result)


@rule("ConstantOfShape", sizes=(0,))
def filled(step: Step) -> Draft:
    """One number everywhere; the batch is the axis that the shape gives it."""
    shape = step.value(0).known
    if shape is None or any(s is None for s in shape.flat):
        step.refuse("makes a tensor whose shape depends on the batch in a way not followed")
    sizes = list(shape.flat)
    batch = [i for i, s in enumerate(sizes) if s.has_batch]
    inner = sizes[batch[0]].over(ROW_COUNT) if len(batch) == 1 else None
    if inner is None or inner.has_batch or not inner.is_size:
        step.refuse("makes a tensor with the batch in more than one axis")
    dims: OpenDims = tuple(s if s.is_size else None for s in sizes)
    return Draft(Rows(batch[0], ONE, inner), dims)


@rule("Range", sizes=(0, 1, 2))
def numbered(step: Step) -> Draft:
    """Numbers the rows, which is good for finding a row's own entries and nothing else."""
    ends = [step.value(i).known for i in range(3)]
    start, limit, stride = (None if e is None else e.flat[0] for e in ends)
    if (start, limit, stride) != (ZERO, ROW_COUNT, ONE):
        step.refuse("counts by a number that depends on the size of the batch")
    return Draft(Rows(0), (ROW_COUNT,), place=Place.NUMBER)
