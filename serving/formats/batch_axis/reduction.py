"""Operators that work along axes: sums, softmax, norms, sorting. The batch must not be one."""

from __future__ import annotations

from dataclasses import replace

from serving.formats.batch_axis.size import ONE, Size
from serving.formats.batch_axis.step import MICROSOFT, Step, is_one, rule
from serving.formats.batch_axis.value import Draft, OpenDims

_REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip


def along(step: Step, axes: list[int], verb: str) -> list[int]:
    """Return axes counted from the front; refuses the batch. ``verb``: "sums", "normalises"."""
    rank, batch = step.rank(0), step.rows(0).axis
    counted = [step.axis(a, rank) for a in axes]
    if batch in counted:
        step.refuse(f"{verb} over axis {batch}, the batch")
    return counted


def without(step: Step, gone: list[int], keep: bool) -> Draft:
    """Return input 0 with some axes reduced to 1, or taken away."""
    dims, rows = step.dims(0), step.rows(0)
    if keep:
        return Draft(rows, tuple(ONE if i in gone else d for i, d in enumerate(dims)))
    left = tuple(d for i, d in enumerate(dims) if i not in gone)
    return Draft(rows.at(rows.axis - sum(a < rows.axis for a in gone)), left)


@rule(*_REDUCTIONS)
def reduce(step: Step) -> Draft:
    """Axes from an attribute or an input; none given means all."""
    axes = step.axes(1)
    if not axes:
        if step.attribute("noop_with_empty_axes", 0):
            return step.keep()
        axes = list(range(step.rank(0)))
    return without(step, along(step, axes, "reduces"), bool(step.attribute("keepdims", 1)))


@rule("ArgMax", "ArgMin")
def arg_reduce(step: Step) -> Draft:
    """One axis, the first by default; what is found is a place on it."""
    axes = along(step, [step.attribute("axis", 0)], "searches")
    (axis,) = axes
    draft = without(step, axes, bool(step.attribute("keepdims", 1)))
    return replace(draft, reach=step.dims(0)[axis])


@rule("Softmax", "LogSoftmax", "Hardmax")
def softmax(step: Step) -> Draft:
    """One axis since opset 13; before, the axis and everything after it as one."""
    if step.opset >= 13:
        along(step, [step.attribute("axis", -1)], "normalises")
    else:
        first = step.axis(step.attribute("axis", 1), step.rank(0))
        along(step, list(range(first, step.rank(0))), "normalises")
    return step.keep()


@rule("CumSum", "CumProd")
def cumulate(step: Step) -> Draft:
    """Running totals along one axis, given as an input."""
    axes = step.integers(1)
    if axes is None or len(axes) != 1:
        step.refuse("works on an axis that is only computed while it runs")
    along(step, axes, "adds up")
    return step.keep()


@rule("TopK")
def top_k(step: Step) -> list[Draft]:
    """The largest of one axis, and where they were along it."""
    step.require_free(1)
    (axis,) = along(step, [step.attribute("axis", -1)], "sorts")
    chosen = step.integers(1) if step.has(1) else [step.attribute("k", 1)]
    dims: list[Size | None] = list(step.dims(0))
    dims[axis] = Size(chosen[0]) if chosen else None
    return [Draft(step.rows(0), tuple(dims))] * 2


@rule("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def layer_norm(step: Step) -> list[Draft]:
    """The axes from ``axis`` to the last; scale and bias belong to those axes."""
    return normalise_last(step)


def normalise_last(step: Step) -> list[Draft]:
    """Return the normalised tensor, and its mean and deviation with those axes reduced to 1."""
    rank = step.rank(0)
    first = step.axis(step.attribute("axis", -1), rank)
    normalised = along(step, list(range(first, rank)), "normalises")
    _check_scales(step, 1, 2)
    return [step.keep(), *[without(step, normalised, True)] * 2]


def _check_scales(step: Step, *positions: int) -> None:
    step.require_free(*positions)
    from_right = step.rank(0) - step.rows(0).axis
    for i in positions:
        if step.has(i) and step.rank(i) >= from_right and not is_one(step.dims(i)[-from_right]):
            step.refuse(f"has a scale or bias for each position of the batch (input {i})")


@rule("SimplifiedLayerNormalization", domain=MICROSOFT)
def simplified_layer_norm(step: Step) -> list[Draft]:
    """RMS normalisation under its older name."""
    return normalise_last(step)


@rule("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_layer_norm(step: Step) -> list[Draft]:
    """LayerNormalization of the sum of two tensors, over the last axis."""
    total = _skip_sum(step)
    if total.rows.axis == len(total.dims) - 1:
        step.refuse(f"normalises over axis {total.rows.axis}, the batch")
    step.require_free(2, 3, 4)
    if any(step.has(i) and step.rank(i) > 1 for i in (2, 3, 4)):
        step.refuse("has a scale or bias that is not a vector")
    statistics = Draft(total.rows, (*total.dims[:-1], ONE))
    return [total, statistics, statistics, total]


def _skip_sum(step: Step) -> Draft:
    rows = step.rows(0)
    skip = step.value(1)
    from_right = step.rank(0) - rows.axis
    if skip.rows is not None:
        if skip.rows != rows or step.rank(1) != step.rank(0):
            step.refuse("adds inputs whose batch axes do not meet")
    elif step.rank(1) >= from_right and not is_one(step.dims(1)[-from_right]):
        step.refuse("adds a constant with an entry for every row")
    return step.keep()


@rule("LpNormalization")
def lp_norm(step: Step) -> Draft:
    """One axis, the last by default."""
    along(step, [step.attribute("axis", -1)], "normalises")
    return step.keep()


@rule("MeanVarianceNormalization")
def mean_variance(step: Step) -> Draft:
    """All axes but the channels by default, which includes axis 0."""
    along(step, list(step.attribute("axes", [0, 2, 3])), "normalises")
    return step.keep()


@rule("Det")
def determinant(step: Step) -> Draft:
    """The last two axes are a matrix."""
    rank = step.rank(0)
    return without(step, along(step, [rank - 2, rank - 1], "takes determinants"), False)


@rule("Trilu")
def triangle(step: Step) -> Draft:
    """The last two axes are a matrix."""
    rank = step.rank(0)
    step.require_free(1)
    along(step, [rank - 2, rank - 1], "cuts a triangle")
    return step.keep()


@rule("DFT")
def fourier(step: Step) -> Draft:
    """One axis besides the last, which holds real and imaginary parts."""
    step.require_free(1, 2)
    rank = step.rank(0)
    if step.opset >= 20:
        axes = step.integers(2) if step.has(2) else [-2]
        if axes is None or len(axes) != 1:
            step.refuse("works on an axis that is only computed while it runs")
    else:
        axes = [step.attribute("axis", 1)]
    counted = along(step, [*axes, rank - 1], "transforms")
    dims: OpenDims = tuple(None if i in counted else d for i, d in enumerate(step.dims(0)))
    return Draft(step.rows(0), dims)


@rule("OneHot")
def one_hot(step: Step) -> Draft:
    """A new axis, the last by default; depth and the two values are free."""
    step.require_free(1, 2)
    rank, rows = step.rank(0), step.rows(0)
    axis = step.axis(step.attribute("axis", -1), rank + 1)
    depth = step.integers(1)
    dims: list[Size | None] = list(step.dims(0))
    dims.insert(axis, Size(depth[0]) if depth else None)
    return Draft(rows.at(rows.axis + (axis <= rows.axis)), tuple(dims))


@rule("ReverseSequence")
def reverse_sequence(step: Step) -> Draft:
    """Each row's own length is turned round: the lengths run parallel to the batch."""
    batch, time = step.attribute("batch_axis", 1), step.attribute("time_axis", 0)
    rows, lengths = step.rows(0), step.rows(1)
    if rows.axis != batch or rows.axis == time or not rows.alike(lengths):
        step.refuse(f"takes axis {batch} for the batch and axis {time} for time")
    return step.keep()
