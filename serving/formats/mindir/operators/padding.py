"""Margins around tensors: constants, copies of the edge, mirror images, the other end.

Sources: ``mindspore.ops`` Pad, PadV3, MirrorPad, ``mint.nn.functional.pad`` (docstrings of 2.0
and 2.10) and https://onnx.ai/onnx/operators/onnx__Pad.html.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor

_BEYOND = 2**63 - 1
_REFLECTED = ("ReflectionPad1D", "ReflectionPad2D", "ReflectionPad3D")
_REPLICATED = ("ReplicationPad1D", "ReplicationPad2D", "ReplicationPad3D")
_MODES = ("constant", "reflect", "edge", "circular")

Pairs = Sequence[tuple[int, int]]
"""What is added (or, below zero, taken away) before and after each axis."""


@converts("Pad", arguments="x paddings")
def pad(op: Operator) -> Tensor:
    """Zeros before and after each axis, of which each has its pair."""
    return _padded(op, _paired(op.nested("paddings")), "constant")


@converts("MirrorPad", arguments="x paddings")
def mirror_pad(op: Operator) -> Tensor:
    """The mirror image at each edge, with the edge (SYMMETRIC) or without it (REFLECT)."""
    mode = op.text("mode", "REFLECT").upper()
    if mode not in ("REFLECT", "SYMMETRIC"):
        op.refuse(f"pads in the mode '{mode}'")
    return _padded(op, _paired(op.nested("paddings")), mode.lower())


@converts("PadV3", arguments="x paddings value|constant_value")
def pad_v3(op: Operator) -> Tensor:
    """Pairs for the last axes, the last axis first; or all begins and then all ends."""
    numbers = op.nested("paddings")
    mode = op.text("mode", "constant")
    if mode not in _MODES or len(numbers) % 2:
        op.refuse(f"pads in the mode '{mode}' by {len(numbers)} numbers")
    half = len(numbers) // 2
    if not op.flag("paddings_contiguous", True):
        numbers = tuple(n for i in range(half) for n in (numbers[i], numbers[half + i]))
    return _padded(op, _of_last_axes(op, numbers), mode)


@converts("ConstantPadND", arguments="x padding value")
def constant_pad(op: Operator) -> Tensor:
    """A constant; pairs for the last axes, the last axis first."""
    return _padded(op, _of_last_axes(op, op.nested("padding")), "constant")


@converts(*_REFLECTED, *_REPLICATED, arguments="x padding")
def mint_pad(op: Operator) -> Tensor:
    """The mirror image without the edge, or the edge itself; pairs, the last axis first."""
    mode = "reflect" if op.node.operator in _REFLECTED else "edge"
    return _padded(op, _of_last_axes(op, op.nested("padding")), mode)


def _paired(numbers: Sequence[int]) -> Pairs:
    return list(zip(numbers[0::2], numbers[1::2], strict=True))


def _of_last_axes(op: Operator, numbers: Sequence[int]) -> Pairs:
    pairs = _paired(numbers)[::-1]
    return [(0, 0)] * (len(op.dims(op.tensor("x"))) - len(pairs)) + list(pairs)


def _padded(op: Operator, pairs: Pairs, mode: str) -> Tensor:
    x = op.tensor("x")
    if len(pairs) != len(op.dims(x)):
        op.refuse("has not a pair of paddings for each axis")
    if mode != "constant" and any(min(p) < 0 for p in pairs):
        op.refuse(f"takes away from an axis in the mode '{mode}'")
    if mode in ("circular", "symmetric"):
        return _continued(op, x, pairs, mode)
    pads = op.constant(np.array([*(b for b, _ in pairs), *(e for _, e in pairs)], np.int64))
    filling = None
    if mode == "constant":
        filling = op.constant(np.array(op.number("value|constant_value", 0.0), x.dtype.numpy))
    return op.emit("Pad", x, pads, filling, mode=mode)


def _continued(op: Operator, x: Tensor, pairs: Pairs, mode: str) -> Tensor:
    """Return x with parts of itself at its ends, which opset 17's Pad has no mode for."""
    for axis, (before, after) in enumerate(pairs):
        length = op.dims(x)[axis]
        if length >= 0 and max(before, after) > length:
            op.refuse("pads by more than there is")
        parts = [x]
        if before and mode == "circular":
            parts.insert(0, _part(op, x, axis, -before, _BEYOND))
        elif before:
            parts.insert(0, _part(op, x, axis, before - 1, -_BEYOND, -1))
        if after and mode == "circular":
            parts.append(_part(op, x, axis, 0, after))
        elif after:
            parts.append(_part(op, x, axis, -1, -after - 1, -1))
        if len(parts) > 1:
            total = -1 if length < 0 else before + length + after
            stated = _with_length(op, x, axis, total)
            x = op.emit("Concat", *parts, type=stated, axis=axis)
    return op.emit("Identity", x)


def _part(op: Operator, x: Tensor, axis: int, begin: int, end: int, step: int = 1) -> Tensor:
    limits = [op.constant(np.array([n], np.int64)) for n in (begin, end, axis, step)]
    return op.emit("Slice", x, *limits, type=_with_length(op, x, axis, -1))


def _with_length(op: Operator, x: Tensor, axis: int, length: int) -> TensorType:
    dims = op.dims(x)
    return TensorType(x.dtype, (*dims[:axis], length, *dims[axis + 1 :]))
