"""Pixels moved between height and width and the channels or the batch.

Sources: ``mindspore.ops`` DepthToSpace, SpaceToDepth, SpaceToBatchND, BatchToSpaceND (docstrings
of 2.0 and 2.10) and https://onnx.ai/onnx/operators/onnx__DepthToSpace.html.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.convolution import require_nchw
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import INT64


@converts("DepthToSpace", arguments="x")
def depth_to_space(op: Operator) -> Tensor:
    """Channels to blocks of pixels, the block's place being the slower: mode DCR."""
    require_nchw(op)
    return op.emit("DepthToSpace", op.tensor("x"), blocksize=op.integer("block_size"), mode="DCR")


@converts("SpaceToDepth", arguments="x")
def space_to_depth(op: Operator) -> Tensor:
    """Blocks of pixels to channels, the block's place being the slower: SpaceToDepth."""
    require_nchw(op)
    return op.emit("SpaceToDepth", op.tensor("x"), blocksize=op.integer("block_size"))


@converts("PixelShuffle", arguments="x upscale_factor")
def pixel_shuffle(op: Operator) -> Tensor:
    """Channels to blocks of pixels, the channel being the slower: mode CRD."""
    x = op.tensor("x")
    if len(op.dims(x)) != 4:
        op.refuse("shuffles what is no stack of images")
    return op.emit("DepthToSpace", x, blocksize=op.integer("upscale_factor"), mode="CRD")


@converts("ChannelShuffle", arguments="x")
def channel_shuffle(op: Operator) -> Tensor:
    """Channels, which are in groups, in the order: the first of each group, the second, ..."""
    x = op.tensor("x")
    dims = op.dims(x)
    groups = op.integer("group|groups")
    if len(dims) < 3 or groups < 1 or dims[1] < 1 or dims[1] % groups:
        op.refuse("has channels that do not divide into its groups")
    count = dims[1] // groups
    # A 0 keeps the length that the axis has; the rest is one axis on the way.
    parts = op.reshape(x, (0, groups, count, -1))
    turned = TensorType(x.dtype, (dims[0], count, groups, -1))
    moved = op.emit("Transpose", parts, type=turned, perm=(0, 2, 1, 3))
    return op.emit("Reshape", moved, op.emit("Shape", x, type=TensorType(INT64, (len(dims),))))


@converts("SpaceToBatch", "SpaceToBatchND", arguments="x")
def space_to_batch(op: Operator) -> Tensor:
    """Zeros around the last axes, then their blocks to the batch, the block's place slower."""
    x = op.tensor("x")
    pads = op.nested("paddings")
    block, rest = _blocks(op, x, pads)
    front = [0] * len(rest)
    x = op.emit(
        "Pad", x,
        op.constant(np.array([*front, *pads[0::2], *front, *pads[1::2]], np.int64)),
        op.constant(np.array(0, x.dtype.numpy)), type=TensorType(x.dtype, None),
    )  # fmt: skip
    lengths = op.dims(op.tensor("x"))[len(rest) :]
    padded = [n + b + e for n, b, e in zip(lengths, pads[0::2], pads[1::2], strict=True)]
    if any(n % b for n, b in zip(padded, block, strict=True)):
        op.refuse("has a length that is no multiple of its block")
    kept = [n // b for n, b in zip(padded, block, strict=True)]
    first, others = rest[0], rest[1:]
    split = [first, *others, *(n for pair in zip(kept, block, strict=True) for n in pair)]
    count, ahead = len(block), len(rest)
    order = [ahead + 2 * i + 1 for i in range(count)]
    order += [*range(ahead), *(ahead + 2 * i for i in range(count))]
    moved = _rearranged(op, x, split, order)
    return op.reshape(moved, (-1, *others, *kept))


@converts("BatchToSpace", "BatchToSpaceND", arguments="x")
def batch_to_space(op: Operator) -> Tensor:
    """The batch to blocks of the last axes, then pixels cut off around."""
    x = op.tensor("x")
    crops = op.nested("crops")
    block, rest = _blocks(op, x, crops)
    count, others = len(block), rest[1:]
    lengths = op.dims(x)[len(rest) :]
    order = [count, *range(count + 1, count + 1 + len(others))]
    for i in range(count):
        order += [count + 1 + len(others) + i, i]
    moved = _rearranged(op, x, [*block, -1, *others, *lengths], order)
    whole = [n * b for n, b in zip(lengths, block, strict=True)]
    joined = op.reshape(moved, (-1, *others, *whole))
    ends = [n - e for n, e in zip(whole, crops[1::2], strict=True)]
    axes = range(len(rest), len(rest) + count)
    limits = [op.constant(np.array(list(v), np.int64)) for v in (crops[0::2], ends, axes)]
    return op.emit("Slice", joined, *limits)


def _blocks(
    op: Operator, x: Tensor, around: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the block, and the axes before those that it divides; all but the first are fixed."""
    block = op.integers("block_shape|block_size")
    if op.has("block_size"):
        block = (block[0],) * 2
    dims = op.dims(x)
    rest = dims[: len(dims) - len(block)]
    if not rest or len(around) != 2 * len(block) or min((*block, *dims[1:]), default=0) < 1:
        op.refuse("has blocks, margins and axes that do not fit, or axes that vary")
    return block, (-1, *rest[1:])


def _rearranged(op: Operator, x: Tensor, split: Sequence[int], order: Sequence[int]) -> Tensor:
    parts = op.reshape(x, split)
    stated = TensorType(x.dtype, tuple(split[i] for i in order))
    return op.emit("Transpose", parts, type=stated, perm=list(order))
