"""Parts of tensors: rows by index, slices, pieces, repetitions.

Sources: ``mindspore.ops`` Gather, StridedSlice, Slice, Tile, Split, ... (docstrings of 2.0 and
2.10) and https://onnx.ai/onnx/operators for what they become.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Sequence

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Known, Tensor, Value
from serving.tensor import BOOL, INT64

_END = 2**63 - 1
"""A place behind every axis' end; ONNX's Slice cuts it to the length."""


@converts("Gather", "GatherV2", "SparseGatherV2", arguments="x indices axis batch_dims")
def gather(op: Operator) -> Tensor:
    """Slices of x along an axis, by index: Gather."""
    if op.integer("batch_dims", 0):
        op.refuse("gathers within batches (batch_dims)")
    return op.emit("Gather", op.tensor("x"), op.tensor("indices"), axis=op.integer("axis"))


@converts("EmbeddingLookup", arguments="x indices offset")
def embedding_lookup(op: Operator) -> Tensor:
    """Rows of x by index less an offset; zeros for an index without a row."""
    x = op.tensor("x")
    indices = op.tensor("indices", INT64)
    offset = op.constant(np.array(op.integer("offset", 0), np.int64))
    flat = TensorType(INT64, indices.shape)
    truth = TensorType(BOOL, indices.shape)
    place = op.emit("Sub", indices, offset, type=flat)
    zero, rows = op.constant(np.array(0)), op.constant(np.array(op.static_dims(x)[0], np.int64))
    inside = op.emit(
        "And",
        op.emit("GreaterOrEqual", place, zero, type=truth),
        op.emit("Less", place, rows, type=truth),
        type=truth,
    )
    found = op.emit("Gather", x, op.emit("Where", inside, place, zero, type=flat), axis=0)
    for _ in op.dims(x)[1:]:
        inside = op.emit("Unsqueeze", inside, op.constant(np.array([-1])), type=truth)
    return op.emit("Where", inside, found, op.constant(np.array(0, x.dtype.numpy)))


@converts("GatherNd", arguments="x indices")
def gather_nd(op: Operator) -> Tensor:
    """Slices of x by rows of indices: GatherND, which takes INT64 alone."""
    return op.emit("GatherND", op.tensor("x"), op.tensor("indices", INT64))


@converts("GatherD", arguments="x dim index")
def gather_d(op: Operator) -> Tensor:
    """One element for each index, along an axis: GatherElements."""
    return op.emit(
        "GatherElements", op.tensor("x"), op.tensor("index", INT64), axis=op.integer("dim")
    )


@converts("Slice", arguments="x begin size")
def slice_(op: Operator) -> Tensor:
    """From ``begin``, ``size`` elements of each axis, -1 being the rest: Slice."""
    begin, size = op.integers("begin"), op.integers("size")
    if len(begin) != len(size):
        op.refuse("has begins and sizes of different lengths")
    ends = [_END if n == -1 else b + n for b, n in zip(begin, size, strict=True)]
    return _sliced(op, op.tensor("x"), begin, ends, range(len(begin)), [1] * len(begin))


@dataclass
class _Plan:
    """What a StridedSlice comes to: a Slice of some axes, then axes dropped and added."""

    begins: list[int | Tensor] = field(default_factory=list)
    ends: list[int | Tensor] = field(default_factory=list)
    axes: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    added: list[int] = field(default_factory=list)


_MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")


@converts("StridedSlice", arguments="x begin end strides " + " ".join(_MASKS))
def strided_slice(op: Operator) -> Tensor:
    """Slices as numpy writes them; bit i of a mask is about entry i of begin, end and strides."""
    x = op.tensor("x")
    plan = _planned(op, len(op.dims(x)))
    if plan.axes:
        x = _sliced(op, x, plan.begins, plan.ends, plan.axes, plan.steps)
    if plan.dropped:
        x = op.emit("Squeeze", x, op.constant(np.array(plan.dropped, np.int64)))
    if plan.added:
        x = op.emit("Unsqueeze", x, op.constant(np.array(plan.added, np.int64)))
    return x if plan.axes or plan.added else op.emit("Identity", x)


def _planned(op: Operator, rank: int) -> _Plan:
    begins, ends = _bounds(op, "begin"), _bounds(op, "end")
    steps = op.integers("strides") if op.has("strides") else (1,) * len(begins)
    from_start, to_end, ellipsis, new, single = (op.integer(m, 0) for m in _MASKS)
    if not len(begins) == len(ends) == len(steps):
        op.refuse("has begins, ends and strides of different lengths")
    entries = range(len(begins))
    taken = sum(1 for i in entries if not (new | ellipsis) >> i & 1)
    if taken > rank:
        op.refuse(f"slices {taken} axes of a tensor of rank {rank}")
    plan = _Plan()
    axis = place = 0
    for i in entries:
        if ellipsis >> i & 1:
            axis, place = axis + rank - taken, place + rank - taken
        elif new >> i & 1:
            plan.added.append(place)
            place += 1
        else:
            one = bool(single >> i & 1)
            if steps[i] == 0 or (one and steps[i] < 0):
                op.refuse("has a stride that goes nowhere")
            backwards = steps[i] < 0
            first = begins[i]
            last = ends[i]
            if from_start >> i & 1 and not one:
                first = _END if backwards else 0
            if to_end >> i & 1:
                last = -_END if backwards else _END
            if one:
                last = _next(op, first)
                plan.dropped.append(axis)
            plan.begins.append(first)
            plan.ends.append(last)
            plan.axes.append(axis)
            plan.steps.append(1 if one else steps[i])
            axis, place = axis + 1, place + (not one)
    return plan


def _bounds(op: Operator, name: str) -> list[int | Tensor]:
    """Return where slices begin or end: numbers, and tensors of rank 0 where that is computed."""
    found = op.value(name)
    if isinstance(found, Tensor):
        (length,) = op.static_dims(found)
        places = (op.constant(np.array(i, np.int64)) for i in range(length))
        wide = op.cast(found, INT64)
        return [op.emit("Gather", wide, p, type=TensorType(INT64, ()), axis=0) for p in places]
    if isinstance(found, tuple) and any(isinstance(v, Tensor) for v in found):
        return [_bound(op, v) for v in found]
    return list(op.integers(name))


def _bound(op: Operator, value: Value) -> int | Tensor:
    if isinstance(value, Known) and isinstance(value.value, int):
        return value.value
    return op.reshape(op.as_tensor(value, INT64), ())


def _next(op: Operator, first: int | Tensor) -> int | Tensor:
    """Return the end of a slice of one element; behind the last, -1, there is no place 0."""
    if isinstance(first, int):
        return _END if first == -1 else first + 1
    number = TensorType(INT64, ())
    one, last, end = (op.constant(np.array(n, np.int64)) for n in (1, -1, _END))
    is_last = op.emit("Equal", first, last, type=TensorType(BOOL, ()))
    return op.emit("Where", is_last, end, op.emit("Add", first, one, type=number), type=number)


def _sliced(op: Operator, x: Tensor, *numbers: Sequence[int | Tensor]) -> Tensor:
    """Emit a Slice; ``numbers`` are begins, ends, axes and steps."""
    return op.emit("Slice", x, *[_vector(op, n) for n in numbers])


def _vector(op: Operator, numbers: Sequence[int | Tensor]) -> Tensor:
    """Return numbers, computed or not, as an INT64 tensor of one axis."""
    if all(isinstance(n, int) for n in numbers):
        return op.constant(np.array(numbers, np.int64))
    parts = [
        op.constant(np.array([n], np.int64)) if isinstance(n, int) else op.reshape(n, (1,))
        for n in numbers
    ]
    return op.emit("Concat", *parts, type=TensorType(INT64, (len(parts),)), axis=0)


@converts("Tile", arguments="x multiples|dims")
def tile(op: Operator) -> Tensor:
    """Repetition along each axis; new axes in front if there are more multiples: Tile."""
    x = op.tensor("x")
    rank = len(op.dims(x))
    repeats = op.vector("multiples|dims")
    count = op.dims(repeats)[0]
    if count > rank:
        front = op.constant(np.arange(count - rank))
        x = op.emit(
            "Unsqueeze", x, front, type=TensorType(x.dtype, (1,) * (count - rank) + op.dims(x))
        )
    elif count < rank:
        ones = op.constant(np.ones(rank - count, np.int64))
        repeats = op.emit("Concat", ones, repeats, type=TensorType(INT64, (rank,)), axis=0)
    return op.emit("Tile", x, repeats)


@converts("Split", arguments="x axis output_num")
def split(op: Operator) -> Value:
    """Equal parts along an axis: Split, which counts its outputs."""
    axis = op.integer("axis", 0)
    if len(op.outputs) == 1:
        return (op.emit("Identity", op.tensor("x"), type=op.outputs[0]),)
    return op.emit_several("Split", op.tensor("x"), types=op.outputs, axis=axis)


@converts("SplitV", arguments="x size_splits split_dim num_split")
def split_v(op: Operator) -> Value:
    """Parts of stated lengths along an axis: Split."""
    sizes = op.constant(np.array(op.integers("size_splits"), np.int64))
    return op.emit_several(
        "Split", op.tensor("x"), sizes, types=op.outputs, axis=op.integer("split_dim")
    )


@converts("Unstack", "Unpack", arguments="x axis num")
def unstack(op: Operator) -> Value:
    """The slices along an axis, without it: Split, then Squeeze of each."""
    x = op.tensor("x")
    axis = op.axis(op.integer("axis", 0), len(op.dims(x)))
    dims = op.dims(x)
    part = TensorType(x.dtype, (*dims[:axis], 1, *dims[axis + 1 :]))
    parts: tuple[Tensor, ...] = (x,)
    if len(op.outputs) > 1:
        parts = op.emit_several("Split", x, types=[part] * len(op.outputs), axis=axis)
    dropped = op.constant(np.array([axis], np.int64))
    return tuple(
        op.emit("Squeeze", p, dropped, type=t) for p, t in zip(parts, op.outputs, strict=True)
    )


@converts("Stack", "Pack", arguments="tensors axis")
def stack(op: Operator) -> Tensor:
    """Tensors side by side along a new axis: Unsqueeze of each, then Concat."""
    tensors = op.tensors("tensors", op.output.dtype)
    axis = op.integer("axis", 0)
    place = op.constant(np.array([axis], np.int64))
    return op.emit("Concat", *[op.emit("Unsqueeze", t, place) for t in tensors], axis=axis)
