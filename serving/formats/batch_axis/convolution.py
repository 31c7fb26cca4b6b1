"""Operators over samples of channels and space: axis 0 counts the samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Sequence

from serving.formats.batch_axis.size import ONE, Kind, Size, derived
from serving.formats.batch_axis.step import MICROSOFT, Step, require_axis_zero, rule
from serving.formats.batch_axis.value import Draft, OpenDims


def _sampled(step: Step, channels: Size | None = None) -> Draft:
    """Return an output with the samples of input 0; its other axes are left to inference."""
    rows = require_axis_zero(step, (0,))
    open_dims: list[Size | None] = [rows.size, channels, *[None] * (step.rank(0) - 2)]
    return Draft(rows, tuple(open_dims[: step.rank(0)]))


def _windowed(step: Step, channels: Size | None, kernel: Sequence[int | None]) -> Draft:
    """Return an output with one entry for each place of a window, as far as that is known.

    Lengths that are equal in the end must be seen to be: networks add and flatten them.
    """
    draft = _sampled(step, channels)
    space = step.dims(0)[2:]
    if len(space) != len(kernel) or step.attribute("ceil_mode", 0):
        return draft
    strides = step.attribute("strides") or [1] * len(space)
    dilations = step.attribute("dilations") or [1] * len(space)
    pads = step.attribute("pads") or [0] * 2 * len(space)
    mode = step.attribute("auto_pad", "NOTSET")
    lengths: list[Size | None] = []
    for i, (length, size) in enumerate(zip(space, kernel, strict=True)):
        if mode.startswith("SAME"):
            lengths.append(_places(length, 0, strides[i]) if strides[i] == 1 else None)
        elif size is None:
            lengths.append(None)
        else:
            padded = pads[i] + pads[i + len(space)] if mode == "NOTSET" else 0
            lengths.append(_places(length, padded - dilations[i] * (size - 1), strides[i]))
    return replace(draft, dims=(*draft.dims[:2], *lengths))


def _places(length: Size, more: int, stride: int) -> Size | None:
    """Return how many places a window has on an axis that is ``more`` longer, less its reach."""
    if stride == 1 and more == 0:
        return length
    count = length.constant
    if count is None:
        return derived(f"windows{more:+}/{stride}", (length,), Kind.SIZE)
    return Size((count + more - 1) // stride + 1) if count + more > 0 else None


def _weights(step: Step, position: int = 1) -> tuple[Size, list[int | None]]:
    """Return the number of channels that come out, and the lengths of the kernel."""
    dims = step.dims(position)
    return dims[0], [d.constant for d in dims[2:]]


@rule("Conv")
def convolution(step: Step) -> Draft:
    """Weights and bias are free."""
    step.require_free(1, 2)
    return _windowed(step, *_weights(step))


@rule("FusedConv", domain=MICROSOFT)
def fused_convolution(step: Step) -> Draft:
    """Conv, plus a tensor of the result's shape, and an activation."""
    step.require_free(1, 2)
    if step.has(3):
        require_axis_zero(step, (0, 3))
    return _windowed(step, *_weights(step))


@rule("ConvTranspose")
def transposed_convolution(step: Step) -> Draft:
    """Weights and bias are free."""
    step.require_free(1, 2)
    return _sampled(step)


@rule("ConvInteger")
def integer_convolution(step: Step) -> Draft:
    """The zero points are free."""
    step.require_free(1, 2, 3)
    return _windowed(step, *_weights(step))


@rule("QLinearConv")
def quantised_convolution(step: Step) -> Draft:
    """Scales, zero points, weights and bias are free."""
    step.require_free(*range(1, 9))
    return _windowed(step, *_weights(step, 3))


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
    channels = step.dims(0)[1] if step.rank(0) > 1 else None
    return _windowed(step, channels, step.attribute("kernel_shape") or ())


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
