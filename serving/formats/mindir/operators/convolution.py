"""Convolutions over images.

Sources: ``mindspore.ops.Conv2D`` (docstrings of 1.0, 2.0 and 2.10) and
https://onnx.ai/onnx/operators/onnx__Conv.html.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.image_layout import emit_images, images
from serving.formats.mindir.operators.matrix import FORMATS
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import INT64

_PAD_MODES = {0: "PAD", 1: "SAME", 2: "VALID"}


@converts("Conv2D", arguments="x w")
def conv2d(op: Operator) -> Tensor:
    """Conv. ``pad_mode`` same is ONNX's SAME_UPPER; pad lists (top, bottom, left, right)."""
    dtype = op.output.dtype
    x, w = images(op, "x", dtype), images(op, "w", dtype)
    windows = _windows(op, x, pair(op, op.integers("kernel_size")))
    return emit_images(op, "Conv", x, w, group=op.integer("group|groups", 1), **windows)


@converts("DepthwiseConv2dNative", arguments="x w")
def depthwise_conv2d(op: Operator) -> Tensor:
    """Conv with a group for each channel; the weight's first two axes are (multiplier, channel).

    Only a multiplier of 1 is converted: others order their output channels otherwise.
    """
    require_nchw(op)
    dtype = op.output.dtype
    w = op.tensor("w", dtype)
    multiplier, channels, height, width = op.static_dims(w)
    if multiplier != 1:
        op.refuse(f"has a channel multiplier of {multiplier}")
    x = op.tensor("x", dtype)
    windows = _windows(op, x, [height, width])
    w = op.reshape(w, (channels, 1, height, width))
    return op.emit("Conv", x, w, group=channels, **windows)


def _windows(op: Operator, x: Tensor, kernel: list[int]) -> dict[str, Any]:
    """Return the attributes of a Conv that say where its windows lie."""
    strides = pair(op, op.integers("stride", (1, 1)))
    dilations = pair(op, op.integers("dilation", (1, 1)))
    pads = padding(op)
    if dilations != [1, 1] and "auto_pad" in pads:
        # onnxruntime has no SAME_UPPER for windows with gaps, so it is written out.
        pads = {"pads": _same(op, x, kernel, strides, dilations)} if _is_same(op) else {}
    return {"kernel_shape": kernel, "strides": strides, "dilations": dilations, **pads}


def _same(
    op: Operator, x: Tensor, kernel: list[int], strides: list[int], dilations: list[int]
) -> list[int]:
    """Return the padding that gives ``ceil(n / stride)`` windows, the odd one at the end."""
    lengths = op.dims(x)[2:]
    if len(lengths) != 2 or min(lengths) < 1:
        op.refuse("pads images whose size varies")
    before, after = [], []
    for n, k, s, d in zip(lengths, kernel, strides, dilations, strict=True):
        surplus = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        before.append(surplus // 2)
        after.append(surplus - surplus // 2)
    return before + after


def _is_same(op: Operator) -> bool:
    return op.choice("pad_mode", _PAD_MODES, "VALID") == "SAME"


def require_nchw(op: Operator) -> None:
    """Refuse another order of axes than NCHW."""
    layout = op.choice("format|data_format", FORMATS, "NCHW")
    if layout != "NCHW":
        op.refuse(f"works on images in the order {layout}; only NCHW is converted")


def pair(op: Operator, numbers: Sequence[int]) -> list[int]:
    """Return (height, width) of a setting written as one, two, or four numbers (N, C, H, W)."""
    if len(numbers) == 4 and tuple(numbers[:2]) != (1, 1):
        op.refuse("strides over images or channels")
    if len(numbers) not in (1, 2, 4) or any(n < 1 for n in numbers):
        op.refuse("has a size that is no height and width")
    return [numbers[0]] * 2 if len(numbers) == 1 else list(numbers[-2:])


def padding(op: Operator) -> dict[str, Any]:
    """Return ONNX's ``auto_pad`` or ``pads`` of a convolution."""
    mode = op.choice("pad_mode", _PAD_MODES, "VALID")
    if mode == "SAME":
        return {"auto_pad": "SAME_UPPER"}
    if mode == "VALID":
        return {"auto_pad": "VALID"}
    pads = op.integers("pad_list|pad", (0,))
    if len(pads) == 1:
        pads *= 4
    if len(pads) != 4 or any(p < 0 for p in pads):
        op.refuse("has a padding that is not (top, bottom, left, right)")
    top, bottom, left, right = pads
    return {"pads": [top, left, bottom, right]}


@converts("Conv2DTranspose", "Conv2DBackpropInput", arguments="x w shape")
def conv2d_transpose(op: Operator) -> Tensor:
    """ConvTranspose; the weight is laid out alike, and what it pads follows from the output's size.

    Undone by a convolution over the output, it pads as that would: the whole reach of the
    windows, ``(n - 1) * stride + dilation * (kernel - 1) + 1``, less the output's length.
    """
    require_nchw(op)
    dtype = op.output.dtype
    x, w = op.tensor("x", dtype), op.tensor("w", dtype)
    kernel = pair(op, op.integers("kernel_size"))
    strides = pair(op, op.integers("stride|strides", (1, 1)))
    dilations = pair(op, op.integers("dilation|dilations", (1, 1)))
    length, target = op.dims(x)[2:], (op.output.shape or ())[2:]
    if len(length) != 2 or len(target) != 2:
        op.refuse("gives what are no images")
    if min(*length, *target) < 1:
        return _cut_to_size(op, x, w, kernel, strides, dilations)
    reach = [
        (n - 1) * s + d * (k - 1) + 1
        for n, s, d, k in zip(length, strides, dilations, kernel, strict=True)
    ]
    pads = _transposed_pads(op, [r - t for r, t in zip(reach, target, strict=True)])
    left = [t - (r - b - e) for t, r, (b, e) in zip(target, reach, pads, strict=True)]
    if any(not 0 <= n < max(s, d) for n, s, d in zip(left, strides, dilations, strict=True)):
        op.refuse("gives an output of a size that does not follow from its windows")
    return op.emit(
        "ConvTranspose", x, w, kernel_shape=kernel, strides=strides, dilations=dilations,
        pads=[b for b, _ in pads] + [e for _, e in pads], output_padding=left,
        group=op.integer("group|groups", 1),
    )  # fmt: skip


def _cut_to_size(
    op: Operator, x: Tensor, w: Tensor, kernel: list[int], strides: list[int], dilations: list[int]
) -> Tensor:
    """Return the transposed convolution of images whose size varies: all that the windows reach.

    Of that the part that the computed shape asks for is kept; behind the reach there are zeros,
    fewer than a stride or a dilation is long.
    """
    loose = TensorType(x.dtype, None)
    sizes, pair_type = TensorType(INT64, (4,)), TensorType(INT64, (2,))
    whole = op.emit(
        "ConvTranspose", x, w, type=loose, kernel_shape=kernel, strides=strides,
        dilations=dilations, group=op.integer("group|groups", 1),
    )  # fmt: skip
    first, last = (op.constant(np.array([n], np.int64)) for n in (2, 4))
    target = op.emit("Slice", op.vector("shape"), first, last, type=pair_type)
    if op.choice("pad_mode", _PAD_MODES, "VALID") == "SAME":
        f = Formula(op, INT64)
        reach = op.emit("Shape", whole, type=sizes)
        reach = op.emit("Slice", reach, first, last, type=pair_type)
        begin = f("Div", f("Max", f("Sub", reach, target), 0), 2)
    else:
        before = [b for b, _ in _transposed_pads(op, (0, 0))]
        begin = op.constant(np.array(before, np.int64))
    most = [max(s, d) - 1 for s, d in zip(strides, dilations, strict=True)]
    zeros = op.constant(np.array([0] * 6 + most, np.int64))
    longer = op.emit("Pad", whole, zeros, op.constant(np.array(0, x.dtype.numpy)), type=loose)
    end = op.emit("Add", begin, target, type=pair_type)
    return op.emit("Slice", longer, begin, end, op.constant(np.array([2, 3], np.int64)))


def _transposed_pads(op: Operator, surplus: Sequence[int]) -> list[tuple[int, int]]:
    """Return what is cut off before and after height and width."""
    mode = op.choice("pad_mode", _PAD_MODES, "VALID")
    if mode == "VALID":
        return [(0, 0), (0, 0)]
    if mode == "SAME":
        return [(n // 2, n - n // 2) for n in (max(s, 0) for s in surplus)]
    top, left, bottom, right = padding(op)["pads"]
    return [(top, bottom), (left, right)]
