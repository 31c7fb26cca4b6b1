"""Operators that rearrange a tensor without computing: the batch must stay an axis that is found.

The batch may be merged with its neighbours (``[batch, time, d]`` to ``[batch * time, d]``) and
split off again; ``Rows.outer`` and ``Rows.inner`` remember what it was merged with.
"""

from __future__ import annotations

from serving.formats.batch_axis.size import ONE, Size, product
from serving.formats.batch_axis.step import Step, rule
from serving.formats.batch_axis.value import Dims, Draft, OpenDims, Rows


@rule("Transpose")
def transpose(step: Step) -> Draft:
    """The axes change places."""
    dims, rows = step.dims(0), step.rows(0)
    order = step.attribute("perm") or list(range(len(dims)))[::-1]
    if sorted(order) != list(range(len(dims))):
        step.refuse(f"has a permutation {order} that does not fit rank {len(dims)}")
    return Draft(rows.at(order.index(rows.axis)), tuple(dims[i] for i in order))


@rule("Reshape", sizes=(1,))
def reshape(step: Step) -> Draft:
    """The target may be computed from shapes."""
    step.rows(0)
    target = step.value(1).known if step.has(1) else None
    if target is None:
        step.refuse("reshapes to a shape that is only computed while it runs")
    allow_zero = bool(step.attribute("allowzero", 0))
    return regroup(step, _resolve(step, list(target.flat), allow_zero))


def _resolve(step: Step, target: list[Size | None], allow_zero: bool) -> list[Size | None]:
    """Replace 0 (keep this axis) and -1 (whatever is left; ``None`` if that is not known)."""
    dims = step.dims(0)
    sizes: list[Size | None] = []
    rest = None
    for i, size in enumerate(target):
        if size is None:
            step.refuse("reshapes by a number that depends on the size of the batch")
        if size == Size(0) and not allow_zero:
            if i >= len(dims):
                step.refuse(f"keeps axis {i} of a tensor of rank {len(dims)}")
            size = dims[i]
        elif size == Size(-1):
            rest, size = i, None
        elif not size.is_size or size == Size(0):
            step.refuse(f"reshapes axis {i} to a length that is only computed while it runs")
        sizes.append(size)
    if rest is not None and sizes.count(None) == 1:
        sizes[rest] = product(dims).over(product(s for s in sizes if s is not None))
    return sizes


def regroup(step: Step, target: list[Size | None]) -> Draft:
    """Return input 0 with its elements grouped to another shape, in the same order.

    The elements before the rows (``outer``), of a row (``inner``) and their order stay; so it is
    enough to find the axis of the target that holds the batch, with axes before it whose product
    divides ``outer`` exactly; what comes after it must hold what comes after the rows.
    """
    dims, rows = step.dims(0), step.rows(0)
    before: Size | None = product(dims[: rows.axis]) * rows.outer
    axis = next((i for i, s in enumerate(target) if s is None or s.has_batch), len(target))
    for size in target[:axis]:
        before = None if before is None or size is None else before.over(size)
    batch = target[axis] if axis < len(target) else None
    unclear = axis if axis < len(target) and batch is None else None
    if before is None or batch is None:
        step.refuse(_unclear(dims, target, unclear))
    found = _split(batch, before)
    after = target[axis + 1 :]
    if found is None or any(s is not None and s.has_batch for s in after):
        step.refuse(_unclear(dims, target, None))
    left = [s for s in after if s is not None]
    fits = found.inner * product(left) == rows.inner * product(dims[rows.axis + 1 :])
    if len(left) == len(after) and not fits:
        # A shape that does not fit ought to fail. onnxruntime's optimiser may replace the batch
        # by -1 instead, and rows would run into one another.
        step.refuse(_unclear(dims, target, None))
    return Draft(found.at(axis), tuple(target))


def _split(size: Size, before: Size) -> Rows | None:
    """Divide an axis into what lies outside the batch, the batch, and what lies inside."""
    whole = Rows(0, before)
    inner = size.over(whole.size)
    if inner is None or inner.has_batch or not inner.is_size:
        return None
    return Rows(0, before, inner)


def _unclear(dims: Dims, target: list[Size | None], axis: int | None) -> str:
    before = ", ".join(map(str, dims))
    after = ", ".join("?" if s is None else str(s) for s in target)
    where = "" if axis is None else f"; the length of axis {axis} is not known"
    return f"reshapes [{before}] to [{after}], which does not keep the batch apart{where}"


@rule("Flatten")
def flatten(step: Step) -> Draft:
    """Everything before the axis, and everything from it on."""
    dims = step.dims(0)
    axis = step.attribute("axis", 1)
    axis = axis + len(dims) if axis < 0 else axis
    return regroup(step, [product(dims[:axis]), product(dims[axis:])])


@rule("Squeeze")
def squeeze(step: Step) -> Draft:
    """Axes of length 1 are dropped; they must be named, for a batch of one has length 1 too."""
    dims, rows = step.dims(0), step.rows(0)
    named = step.axes(1)
    if named is None:
        step.refuse("drops every axis of length 1, which the batch has when one row comes alone")
    gone = [step.axis(a, len(dims)) for a in named]
    if rows.axis in gone:
        step.refuse(f"drops axis {rows.axis}, the batch")
    left = tuple(d for i, d in enumerate(dims) if i not in gone)
    return Draft(rows.at(rows.axis - sum(a < rows.axis for a in gone)), left)


@rule("Unsqueeze")
def unsqueeze(step: Step) -> Draft:
    """Axes of length 1 are put in, counted in the result."""
    named = step.axes(1)
    if named is None:
        step.refuse("puts in axes that are not named")
    dims, rows = list(step.dims(0)), step.rows(0)
    rank = len(dims) + len(named)
    added = {step.axis(a, rank) for a in named}
    old = iter(enumerate(dims))
    result: list[Size] = []
    place = 0
    for axis in range(rank):
        if axis in added:
            result.append(ONE)
            continue
        index, dim = next(old)
        place = axis if index == rows.axis else place
        result.append(dim)
    return Draft(rows.at(place), tuple(result))


@rule("DepthToSpace", "SpaceToDepth")
def depth_space(step: Step) -> Draft:
    """Channels and space change places within each sample."""
    rows = step.rows(0)
    if rows.axis != 0:
        step.refuse(f"takes axis 0 for its samples, but the batch is in axis {rows.axis}")
    dims: OpenDims = (rows.size, *[None] * (step.rank(0) - 1))
    return Draft(rows, dims)


def flat_rows(dims: Dims, rows: Rows) -> Rows:
    """Return the rows of a tensor read as one long list."""
    outer = product(dims[: rows.axis]) * rows.outer
    return Rows(0, outer, rows.inner * product(dims[rows.axis + 1 :]))
