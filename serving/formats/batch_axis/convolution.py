"""Operators over samples of channels and space: axis 0 counts the samples."""

from __future__ import annotations

from serving.formats.batch_axis.size import ONE, Size
from serving.formats.batch_axis.step import MICROSOFT, Step, require_axis_zero, rule
from serving.formats.batch_axis.value import Draft, OpenDims


def _sampled(step: Step, channels: Size | None = None, rank: int | None = None) -> Draft:
    """Return an output with the samples of input 0; its other axes are left to inference."""
    rows = require_axis_zero(step, (0,))
    dims = step.dims(0)
    count = len(dims) if rank is None else rank
    open_dims: list[Size | None] = [rows.size, channels, *[None] * (count - 2)]
    return Draft(rows, tuple(open_dims[:count]))


@rule("Conv")
def convolution(step: Step) -> Draft:
    """Weights and bias are free."""
    step.require_free(1, 2)
    return _sampled(step, step.dims(1)[0])


@rule("FusedConv", domain=MICROSOFT)
def fused_convolution(step: Step) -> Draft:
    """Conv, plus a tensor of the result's shape, and an activation."""
    step.require_free(1, 2)
    if step.has(3):
        require_axis_zero(step, (0, 3))
    return _sampled(step, step.dims(1)[0])


@rule("ConvTranspose")
def transposed_convolution(step: Step) -> Draft:
    """Weights and bias are free."""
    step.require_free(1, 2)
    return _sampled(step)


@rule("ConvInteger")
def integer_convolution(step: Step) -> Draft:
    """The zero points are free."""
    step.require_free(1, 2, 3)
    return _sampled(step, step.dims(1)[0])


@rule("QLinearConv")
def quantised_convolution(step: Step) -> Draft:
    """Scales, zero points, weights and bias are free."""
    step.require_free(*range(1, 9))
    return _sampled(step, step.dims(3)[0])


@rule("DeformConv")
def deformable_convolution(step: Step) -> Draft:
    """Offsets and mask belong to the samples."""
    step.require_free(1, 3)
    require_axis_zero(step, (0, 2, 4))
    return _sampled(step, step.dims(1)[0])


@rule("AveragePool", "LpPool", "MaxPool")
def pool(step: Step) -> Draft:
    """Windows lie within one sample. The second output of MaxPool counts through all samples."""
    if sum(1 for name in step.node.output if name) > 1:
        step.refuse("returns places counted through the whole batch")
    return _sampled(step, step.dims(0)[1] if step.rank(0) > 1 else None)


@rule("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool")
def global_pool(step: Step) -> Draft:
    """Every channel of a sample becomes one number."""
    rows = require_axis_zero(step, (0,))
    dims: OpenDims = (rows.size, step.dims(0)[1], *[ONE] * (step.rank(0) - 2))
    return Draft(rows, dims)


@rule("QLinearGlobalAveragePool", domain=MICROSOFT)
def quantised_global_pool(step: Step) -> Draft:
    """As GlobalAveragePool, channels second or last."""
    step.require_free(1, 2, 3, 4)
    return _sampled(step)


@rule("BatchNormalization")
def batch_norm(step: Step) -> Draft:
    """With the mean and variance of training; axis 1 holds the channels."""
    outputs = sum(1 for name in step.node.output if name)
    if step.attribute("training_mode", 0) or outputs > 1:
        step.refuse("normalises by the mean of the batch (it is in training mode)")
    step.require_free(1, 2, 3, 4)
    if step.rank(0) < 2 or step.rows(0).axis == 1:
        step.refuse("takes axis 1 for channels, but the batch is there")
    return step.keep()


@rule("InstanceNormalization", "GroupNormalization")
def sample_norm(step: Step) -> Draft:
    """Normalises within each sample."""
    step.require_free(1, 2)
    require_axis_zero(step, (0,))
    return step.keep()


@rule("LRN")
def local_response(step: Step) -> Draft:
    """Normalises over neighbouring channels."""
    if step.rows(0).axis == 1:
        step.refuse("takes axis 1 for channels, but the batch is there")
    return step.keep()


@rule("Resize", sizes=(3,))
def resize(step: Step) -> Draft:
    """The batch must keep its length: a scale of 1, or its own size."""
    step.require_free(1, 2)
    if step.attribute("coordinate_transformation_mode", "") in (
        "tf_crop_and_resize", "tf_half_pixel_for_nn"
    ):  # fmt: skip
        step.refuse("resizes in a mode that may move the rows")
    rank, rows = step.rank(0), step.rows(0)
    axes = [step.axis(a, rank) for a in (step.attribute("axes") or range(rank))]
    dims: list[Size | None] = [d if i == rows.axis else None for i, d in enumerate(step.dims(0))]
    if rows.axis not in axes:
        return Draft(rows, tuple(dims))
    if step.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        step.refuse("resizes by a ratio taken over all axes, the batch among them")
    place = axes.index(rows.axis)
    # Opset 10 has the scales second; later ones have the region there and the scales third.
    scales = 1 if step.opset < 11 else 2
    kept = _is_entry(step, scales, place, ONE) or _is_entry(step, 3, place, rows.size)
    if not kept:
        step.refuse(f"is not known to leave axis {rows.axis}, the batch, at its length")
    return Draft(rows, tuple(dims))


def _is_entry(step: Step, position: int, place: int, wanted: Size) -> bool:
    if not step.has(position):
        return False
    known = step.value(position).known
    return known is not None and known.size > place and known.flat[place] == wanted


@rule("Upsample")
def upsample(step: Step) -> Draft:
    """The older Resize: scales from an attribute or an input."""
    step.require_free(1)
    rows = step.rows(0)
    listed = step.attribute("scales")
    one = listed[rows.axis] == 1.0 if listed else _is_entry(step, 1, rows.axis, ONE)
    if not one:
        step.refuse(f"is not known to leave axis {rows.axis}, the batch, at its length")
    dims = tuple(d if i == rows.axis else None for i, d in enumerate(step.dims(0)))
    return Draft(rows, dims)


@rule("GridSample")
def grid_sample(step: Step) -> Draft:
    """Every sample has a grid of its own."""
    rows = require_axis_zero(step, (0, 1))
    grid = step.dims(1)
    return Draft(rows, (rows.size, step.dims(0)[1], *grid[1:-1]))


@rule("STFT")
def short_time_fourier(step: Step) -> Draft:
    """Every signal by itself."""
    step.require_free(1, 2, 3)
    rows = require_axis_zero(step, (0,))
    return Draft(rows, (rows.size, None, None, Size(2)))
