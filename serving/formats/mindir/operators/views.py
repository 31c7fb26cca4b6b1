"""The forms of ``mint`` for parts and orders of a tensor; views are copies here, seen by nobody.

Sources: the docstrings of ``mindspore.mint`` chunk, split, narrow, select, flatten, roll, flip,
repeat_interleave, ... (2.3 to 2.10), and https://onnx.ai/onnx/operators for what they become.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.indexing import tile
from serving.formats.mindir.operators.shaping import expand_dims, reshape, transpose
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor, Value
from serving.tensor import BOOL, INT64

_END = 2**63 - 1
"""A place behind every axis' end; ONNX's Slice cuts it to the length."""

converts("Repeat", arguments="x multiples|dims")(tile)
converts("View", arguments="x shape")(reshape)
converts("ExpandDimsView", arguments="x axis")(expand_dims)
converts("TransposeView", arguments="x perm")(transpose)


def lengths_of(op: Operator, x: Tensor) -> Tensor:
    """Return a tensor's lengths as an INT64 tensor."""
    rank = -1 if x.shape is None else len(x.shape)
    return op.emit("Shape", x, type=TensorType(INT64, (rank,)))


def numbers(op: Operator, *given: int) -> Tensor:
    """Return whole numbers as an INT64 tensor of one axis."""
    return op.constant(np.array(given, np.int64))


@converts("FlattenExt", arguments="x start_dim end_dim")
def flatten(op: Operator) -> Tensor:
    """The axes from one to another as one; a number becomes a row of one."""
    x = op.tensor("x")
    dims = op.dims(x)
    if not dims:
        return op.reshape(x, (1,))
    first = op.axis(op.integer("start_dim", 0), len(dims))
    last = op.axis(op.integer("end_dim", -1), len(dims))
    if first > last:
        op.refuse("flattens from an axis to one before it")
    # A 0 keeps the length that the axis has.
    front = numbers(op, *[0] * first, -1)
    behind = op.emit(
        "Slice", lengths_of(op, x), numbers(op, last + 1), numbers(op, len(dims)),
        type=TensorType(INT64, (len(dims) - last - 1,)),
    )  # fmt: skip
    target = op.emit("Concat", front, behind, type=TensorType(INT64, (-1,)), axis=0)
    return op.emit("Reshape", x, target)


@converts("TransposeExtView", arguments="x dim0 dim1")
def swapped(op: Operator) -> Tensor:
    """Two axes exchanged."""
    x = op.tensor("x")
    order = list(range(len(op.dims(x))))
    one, other = (op.axis(op.integer(n), len(order)) for n in ("dim0", "dim1"))
    if order:
        order[one], order[other] = other, one
    return op.emit("Transpose", x, perm=order)


@converts("TExt", arguments="x")
def transposed(op: Operator) -> Tensor:
    """A matrix transposed; a vector or number as it is."""
    x = op.tensor("x")
    rank = len(op.dims(x))
    if rank > 2:
        op.refuse(f"transposes a tensor of rank {rank}")
    return op.emit("Transpose", x, perm=list(range(rank))[::-1])


@converts("BroadcastTo", "BroadcastToView", "DynamicBroadcastTo", arguments="x shape")
def broadcast(op: Operator) -> Tensor:
    """The tensor repeated to fill a shape, computed or not, in which -1 keeps a length."""
    shape = op.vector("shape")
    kept = op.emit("Equal", shape, numbers(op, -1), type=TensorType(BOOL, shape.shape))
    target = op.emit("Where", kept, numbers(op, 1), shape, type=shape.type)
    return op.emit("Expand", op.tensor("x"), target)


@converts("ExpandAs", arguments="x other")
def expand_as(op: Operator) -> Tensor:
    """The tensor repeated to the shape of another."""
    return op.emit("Expand", op.tensor("x"), lengths_of(op, op.tensor("other")))


def _parts(op: Operator, sizes: Sequence[int]) -> Value:
    """Split x along ``dim`` into parts of these lengths."""
    x = op.tensor("x")
    axis = op.axis(op.integer("dim", 0), len(op.dims(x)))
    if len(sizes) != len(op.outputs) or min(sizes, default=0) < 0:
        op.refuse("splits an axis whose length varies")
    if len(sizes) == 1:
        return (op.emit("Identity", x, type=op.outputs[0]),)
    return op.emit_several("Split", x, numbers(op, *sizes), types=op.outputs, axis=axis)


@converts("SplitWithSize", "SplitWithSizeView", arguments="x split_size dim")
def split_with_sizes(op: Operator) -> Value:
    """Parts of stated lengths along an axis: Split."""
    return _parts(op, op.integers("split_size"))


@converts("SplitTensor", "SplitTensorView", arguments="x split_size dim")
def split_evenly(op: Operator) -> Value:
    """Parts of one stated length along an axis, the last one shorter: Split."""
    return _parts(op, _stated_lengths(op))


@converts("Chunk", "ChunkView", arguments="x chunks dim")
def chunk(op: Operator) -> Value:
    """About so many parts of one length along an axis, the last one shorter: Split."""
    return _parts(op, _stated_lengths(op))


def _stated_lengths(op: Operator) -> list[int]:
    """Return the parts' lengths, which the types of the outputs state."""
    rank = len(op.dims(op.tensor("x")))
    axis = op.axis(op.integer("dim", 0), rank)
    if any(t.shape is None or len(t.shape) != rank for t in op.outputs):
        op.refuse("splits an axis whose length varies")
    return [t.shape[axis] for t in op.outputs if t.shape is not None]


def _place(op: Operator, name: str) -> Tensor:
    """Return a whole number, computed or not, as a vector of one."""
    return op.reshape(op.tensor(name, INT64), (1,))


@converts("Narrow", "NarrowView", arguments="x dim start length")
def narrow(op: Operator) -> Tensor:
    """``length`` slices along an axis from ``start`` on, which may count from the end: Slice."""
    x = op.tensor("x")
    axis = op.axis(op.integer("dim"), len(op.dims(x)))
    start, length = _place(op, "start"), _place(op, "length")
    size = op.emit(
        "Gather", lengths_of(op, x), numbers(op, axis), type=TensorType(INT64, (1,)), axis=0
    )
    one = TensorType(INT64, (1,))
    below = op.emit("Less", start, numbers(op, 0), type=TensorType(BOOL, (1,)))
    start = op.emit("Where", below, op.emit("Add", start, size, type=one), start, type=one)
    end = op.emit("Add", start, length, type=one)
    return op.emit("Slice", x, start, end, numbers(op, axis))


@converts("SliceExt", "SliceExtView", arguments="x dim start end step")
def slice_ext(op: Operator) -> Tensor:
    """Slices along an axis as Python's ``x[start:end:step]``; the step is positive."""
    x = op.tensor("x")
    axis = op.axis(op.integer("dim", 0), len(op.dims(x)))
    start = _place(op, "start") if op.has("start") else numbers(op, 0)
    end = _place(op, "end") if op.has("end") else numbers(op, _END)
    step = op.integer("step", 1)
    if step < 1:
        op.refuse("has a step that is not positive")
    return op.emit("Slice", x, start, end, numbers(op, axis), numbers(op, step))


@converts("SelectExt", "SelectExtView", arguments="x dim index")
def select(op: Operator) -> Tensor:
    """One slice along an axis, without the axis: Gather."""
    index = op.reshape(op.tensor("index", INT64), ())
    return op.emit("Gather", op.tensor("x"), index, axis=op.integer("dim"))


@converts("IndexSelect", arguments="x dim index")
def index_select(op: Operator) -> Tensor:
    """Slices along an axis, by index: Gather."""
    return op.emit("Gather", op.tensor("x"), op.tensor("index", INT64), axis=op.integer("dim"))


@converts("StackExt", arguments="tensors dim")
def stack(op: Operator) -> Tensor:
    """Tensors side by side along a new axis: Unsqueeze of each, then Concat."""
    axis = op.integer("dim", 0)
    tensors = op.tensors("tensors", op.output.dtype)
    columns = [op.emit("Unsqueeze", t, numbers(op, axis)) for t in tensors]
    return op.emit("Concat", *columns, axis=axis)


@converts("UnstackExt", "UnstackExtView", arguments="x dim")
def unstack(op: Operator) -> Value:
    """The slices along an axis, without it: Gather of each."""
    x, axis = op.tensor("x"), op.integer("dim", 0)
    places = [op.constant(np.array(i, np.int64)) for i in range(len(op.outputs))]
    return tuple(
        op.emit("Gather", x, p, type=t, axis=axis) for p, t in zip(places, op.outputs, strict=True)
    )


@converts("ReverseV2", arguments="x axis")
def reverse(op: Operator) -> Tensor:
    """Some axes backwards: Slice with a step of -1."""
    x = op.tensor("x")
    axes = [op.axis(a, len(op.dims(x))) for a in op.integers("axis")]
    if not axes:
        return op.emit("Identity", x)
    count = len(axes)
    ends = ([-1] * count, [-_END] * count, axes, [-1] * count)
    return op.emit("Slice", x, *[numbers(op, *n) for n in ends])


@converts("Roll", arguments="x shifts|shift dims|axis")
def roll(op: Operator) -> Tensor:
    """Elements moved along axes, or through the whole tensor, from the end round to the start."""
    x = op.tensor("x")
    shifts = op.integers("shifts|shift")
    dims = op.integers("dims|axis", ()) if op.has("dims|axis") else ()
    if not dims:
        if len(shifts) != 1:
            op.refuse("moves a whole tensor by several distances")
        flat = op.reshape(x, (-1,))
        moved = _rolled(op, flat, 0, shifts[0], int(np.prod(op.static_dims(x))))
        return op.emit("Reshape", moved, lengths_of(op, x))
    if len(shifts) != len(dims):
        op.refuse("has other numbers of distances than of axes")
    lengths = op.static_dims(x)
    for shift, dim in zip(shifts, dims, strict=True):
        axis = op.axis(dim, len(lengths))
        x = _rolled(op, x, axis, shift, lengths[axis])
    return op.emit("Identity", x)


def _rolled(op: Operator, x: Tensor, axis: int, shift: int, length: int) -> Tensor:
    place = -shift % length if length else 0
    if place == 0:
        return x
    loose = TensorType(x.dtype, None)
    parts = [
        op.emit("Slice", x, numbers(op, a), numbers(op, b), numbers(op, axis), type=loose)
        for a, b in ((place, _END), (0, place))
    ]
    return op.emit("Concat", *parts, type=x.type, axis=axis)


@converts("RepeatInterleaveInt", "RepeatInterleaveTensor", arguments="x repeats dim output_size")
def repeat_interleave(op: Operator) -> Tensor:
    """Each slice along an axis, or each element, repeated in its place: Gather.

    Place j of the result shows the first slice whose repeats, with those before, exceed j.
    """
    x = op.tensor("x")
    if op.has("dim"):
        axis = op.axis(op.integer("dim"), len(op.dims(x)))
    else:
        x, axis = op.reshape(x, (-1,)), 0
    row = TensorType(INT64, (-1,))
    repeats = op.reshape(op.tensor("repeats", INT64), (-1,))
    count = op.emit("Gather", lengths_of(op, x), numbers(op, axis), type=row, axis=0)
    repeats = op.emit("Expand", repeats, count, type=row)
    zero, one = (op.constant(np.array(n, np.int64)) for n in (0, 1))
    ends = op.emit("CumSum", repeats, zero, type=row)
    total = op.emit("ReduceSum", repeats, type=TensorType(INT64, ()), keepdims=0)
    places = op.emit("Range", zero, total, one, type=row)
    table = TensorType(BOOL, (-1, -1))
    passed = op.emit("LessOrEqual", ends, op.reshape(places, (-1, 1)), type=table)
    index = op.emit("ReduceSum", op.cast(passed, INT64), numbers(op, 1), type=row, keepdims=0)
    return op.emit("Gather", x, index, axis=axis)


@converts("Meshgrid", arguments="tensors indexing")
def meshgrid(op: Operator) -> Value:
    """Each vector spread over the axes of all; by ``xy`` the first two axes change places."""
    tensors = op.tensors("tensors")
    axes = list(range(len(tensors)))
    if op.choice("indexing", {0: "IJ", 1: "XY"}, "XY") == "XY" and len(axes) > 1:
        axes[:2] = [1, 0]
    counts = [lengths_of(op, op.reshape(t, (-1,))) for t in tensors]
    order = sorted(range(len(axes)), key=lambda i: axes[i])
    target = op.emit(
        "Concat", *[counts[i] for i in order], type=TensorType(INT64, (len(axes),)), axis=0
    )
    columns = [
        op.reshape(t, [-1 if a == i else 1 for i in range(len(axes))])
        for t, a in zip(tensors, axes, strict=True)
    ]
    return tuple(
        op.emit("Expand", c, target, type=t) for c, t in zip(columns, op.outputs, strict=True)
    )


@converts("MaskedSelect", arguments="x mask")
def masked_select(op: Operator) -> Tensor:
    """The elements where the mask holds, both broadcast, in one row: Compress."""
    x, mask = op.tensor("x"), op.tensor("mask", BOOL)
    wide = TensorType(x.dtype, None)
    # A broadcast of both: the mask is spread by x and x by the mask.
    x = op.emit("Expand", x, lengths_of(op, mask), type=wide)
    mask = op.emit("Expand", mask, lengths_of(op, x), type=TensorType(BOOL, None))
    return op.emit("Compress", x, op.reshape(mask, (-1,)))


@converts("NonZero", "NonZeroExt", arguments="x")
def non_zero(op: Operator) -> Value:
    """The places of elements that are not 0: a row each, or (``NonZeroExt``) a vector an axis."""
    x = op.tensor("x")
    found = op.emit("NonZero", x, type=TensorType(INT64, (len(op.dims(x)), -1)))
    if op.node.operator == "NonZeroExt":
        places = [op.constant(np.array(i, np.int64)) for i in range(len(op.outputs))]
        return tuple(
            op.emit("Gather", found, p, type=t, axis=0)
            for p, t in zip(places, op.outputs, strict=True)
        )
    return op.emit("Transpose", found, perm=[1, 0])
