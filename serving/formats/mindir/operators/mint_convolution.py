"""Convolutions of any number of axes, as ``mint.nn`` writes them, with or without a batch.

Sources: ``mindspore.mint.nn.functional`` conv1d, conv2d, conv3d, conv_transpose2d and
``ops.Convolution`` (2.10's definitions) and https://onnx.ai/onnx/operators/onnx__Conv.html.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor

_ARGUMENTS = "x w bias stride padding dilation groups"
_GENERAL = "x w bias stride padding dilation transposed output_padding groups"
_WORDS = {1: "SAME", 2: "VALID"}


@converts("Conv1DExt", "Conv2DExt", "Conv3DExt", arguments=_ARGUMENTS)
def convolution(op: Operator) -> Tensor:
    """Conv with a padding for each axis, at both of its ends."""
    return _convolved(op, _both_ends(op))


@converts("Conv1DPadding", "Conv2DPadding", "Conv3DPadding", arguments=_ARGUMENTS)
def padded_convolution(op: Operator) -> Tensor:
    """Conv with a padding of ``same`` (the odd one at the end) or ``valid``."""
    return _convolved(op, _by_word(op))


@converts("Convolution", arguments=_GENERAL)
def general_convolution(op: Operator) -> Tensor:
    """Conv or ConvTranspose, by the flag ``transposed``."""
    return _transposed(op) if op.flag("transposed", False) else _convolved(op, _both_ends(op))


@converts("ConvolutionStr", arguments=_GENERAL)
def worded_convolution(op: Operator) -> Tensor:
    """Conv with a padding of ``same`` or ``valid``."""
    if op.flag("transposed", False):
        op.refuse("reverses a convolution whose padding is a word")
    return _convolved(op, _by_word(op))


@converts("ConvTranspose2D", arguments="x w bias stride padding output_padding groups dilation")
def transposed_convolution(op: Operator) -> Tensor:
    """ConvTranspose."""
    return _transposed(op)


def _by_word(op: Operator) -> dict[str, Any]:
    if op.choice("padding", _WORDS, "VALID") == "VALID":
        return {"auto_pad": "VALID"}
    if any(s != 1 for s in op.integers("stride", (1,))):
        op.refuse("pads to the same size with a stride")
    return {"auto_pad": "SAME_UPPER"}


def _both_ends(op: Operator) -> dict[str, Any]:
    pads = each_axis(op, "padding", 0)
    return {"pads": [*pads, *pads]}


def each_axis(op: Operator, name: str, default: int) -> list[int]:
    """Return a setting that is one number for all axes behind the channels, or one for each."""
    found = op.integers(name, (default,))
    count = len(op.dims(op.tensor("w"))) - 2
    if len(found) not in (1, count) or min(found) < 0:
        op.refuse(f"has a '{name}' that is not one number for each axis")
    return list(found) * count if len(found) == 1 else list(found)


def _convolved(op: Operator, padding: dict[str, Any]) -> Tensor:
    return _batched(op, "Conv", **padding)


def _transposed(op: Operator) -> Tensor:
    added = each_axis(op, "output_padding", 0)
    return _batched(op, "ConvTranspose", output_padding=added, **_both_ends(op))


def _batched(op: Operator, operator: str, **settings: Any) -> Tensor:
    """Emit a convolution; ONNX wants the batch that a single signal or image lacks."""
    dtype = op.output.dtype
    x, w = op.tensor("x", dtype), op.tensor("w", dtype)
    given: list[Tensor] = [x, w]
    if op.has("bias"):
        given.append(op.tensor("bias", dtype))
    settings |= {
        "strides": each_axis(op, "stride", 1),
        "dilations": each_axis(op, "dilation", 1),
        "group": op.integer("groups", 1),
    }
    if len(op.dims(x)) == len(op.dims(w)):
        return op.emit(operator, *given, **settings)
    return _single(op, operator, given, settings)


def _single(
    op: Operator, operator: str, given: Sequence[Tensor], settings: dict[str, Any]
) -> Tensor:
    x, *rest = given
    first = op.constant(np.array([0]))
    batch = op.emit("Unsqueeze", x, first, type=TensorType(x.dtype, (1, *op.dims(x))))
    shape = None if op.output.shape is None else (1, *op.output.shape)
    made = op.emit(operator, batch, *rest, type=TensorType(op.output.dtype, shape), **settings)
    return op.emit("Squeeze", made, first)
