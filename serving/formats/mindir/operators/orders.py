"""What follows from the order of elements: medians, ranks, places among sorted ones, sequences.

Sources: the docstrings of ``mindspore.ops`` Median, InTopK, SearchSorted, Unique and
ReverseSequence (2.0 to 2.10), and https://onnx.ai/onnx/operators/onnx__Unique.html,
onnx__ReverseSequence.html.
"""

from __future__ import annotations

import numpy as np

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.accumulation import summable
from serving.formats.mindir.operators.elementary import is_whole
from serving.formats.mindir.operators.views import lengths_of, numbers
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Absent, Tensor, Value
from serving.tensor import BOOL, FP32, INT64

_SINGLE = TensorType(INT64, (1,))


def _middle(op: Operator, x: Tensor, axis: int, keep: bool) -> tuple[Tensor, Tensor]:
    """Return the lower median along an axis and where it is; NaN, if there is one, and its place.

    Places are INT64; the axis stays, of length 1, if it is to be kept.
    """
    dims = op.dims(x)
    row = (*dims[:axis], *((1,) if keep else ()), *dims[axis + 1 :])
    whole = TensorType(x.dtype, dims)
    count = op.emit("Gather", lengths_of(op, x), numbers(op, axis), type=_SINGLE, axis=0)
    values, places = op.emit_several(
        "TopK", x, count, types=[whole, TensorType(INT64, dims)], axis=axis, largest=0, sorted=1
    )
    f = Formula(op, INT64)
    half = f("Div", f("Sub", count, 1), 2)
    at = half if keep else op.reshape(half, ())
    value = op.emit("Gather", values, at, type=TensorType(x.dtype, row), axis=axis)
    place = op.emit("Gather", places, at, type=TensorType(INT64, row), axis=axis)
    if is_whole(x):
        return value, place
    wide = x if x.dtype.name == "FP64" else op.cast(x, FP32)
    missing = op.cast(op.emit("IsNaN", wide, type=TensorType(BOOL, dims)), INT64)
    around = TensorType(INT64, row)
    first = op.emit("ArgMax", missing, type=around, axis=axis, keepdims=int(keep))
    found = op.emit("ReduceMax", missing, type=around, axes=[axis], keepdims=int(keep))
    is_missing = op.cast(found, BOOL)
    value = Formula(op, x.dtype)("Where", is_missing, float("nan"), value)
    return value, op.emit("Where", is_missing, first, place, type=around)


@converts("Median", arguments="x global_median axis keep_dims ignore_nan")
def median(op: Operator) -> Value:
    """The lower of the middle elements, along an axis with its place, or of all alone."""
    if op.flag("ignore_nan", False):
        op.refuse("leaves NaN out (ignore_nan)")
    values, places = op.outputs
    x = op.tensor("x", summable(values.dtype))
    if op.flag("global_median", False):
        value, _ = _middle(op, op.reshape(x, (-1,)), 0, keep=False)
        return op.cast(value, values.dtype), Absent("the place of a median of all")
    axis = op.axis(op.integer("axis", 0), len(op.dims(x)))
    value, place = _middle(op, x, axis, op.flag("keep_dims", False))
    return op.cast(value, values.dtype), op.cast(place, places.dtype)


@converts("MedianExt", arguments="x")
def median_of_all(op: Operator) -> Tensor:
    """The lower of the middle elements of all."""
    x = op.tensor("x", summable(op.output.dtype))
    return op.cast(_middle(op, op.reshape(x, (-1,)), 0, keep=False)[0], op.output.dtype)


@converts("MedianDim", arguments="x dim keepdim")
def median_along(op: Operator) -> Value:
    """The lower of the middle elements along an axis, and its place."""
    values, places = op.outputs
    x = op.tensor("x", summable(values.dtype))
    axis = op.axis(op.integer("dim", -1), len(op.dims(x)))
    value, place = _middle(op, x, axis, op.flag("keepdim", False))
    return op.cast(value, values.dtype), op.cast(place, places.dtype)


@converts("InTopK", arguments="x target k")
def in_top_k(op: Operator) -> Tensor:
    """Whether fewer than k of a row are greater than the one that the target names.

    A target without a place, or a number that is not finite there, is never among them.
    """
    dtype = op.tensor("x").dtype
    ran = dtype if dtype.name == "FP64" else FP32
    x = op.tensor("x", ran)
    f, g = Formula(op, ran), Formula(op, INT64)
    column = op.reshape(op.tensor("target", INT64), (-1, 1))
    classes = op.emit("Gather", lengths_of(op, x), numbers(op, 1), type=_SINGLE, axis=0)
    inside = g("And", g("GreaterOrEqual", column, 0), g("Less", column, classes))
    place = g("Where", inside, column, 0)
    one = TensorType(ran, (op.dims(x)[0], 1))
    named = op.emit("GatherElements", x, place, type=one, axis=1)
    finite = f("Not", f("Or", f("IsNaN", named), f("IsInf", named)))
    before = op.cast(f("Greater", x, named), INT64)
    count = op.emit(
        "ReduceSum", before, numbers(op, 1), type=TensorType(INT64, one.shape), keepdims=1
    )
    found = f("And", f("And", inside, finite), g("Less", count, op.integer("k")))
    return op.reshape(found, (-1,))


@converts("SearchSorted", arguments="sorted_sequence values sorter dtype right")
def search_sorted(op: Operator) -> Tensor:
    """How many of a sorted row are below each value, or, from the right, not above it."""
    if op.has("sorter"):
        op.refuse("takes a row's order from another tensor (sorter)")
    row, values = op.tensor("sorted_sequence"), op.tensor("values")
    wide = [t.dtype for t in (row, values) if t.dtype.name.startswith("FP")]
    ran = max(wide, key=lambda d: d.itemsize, default=INT64)
    row, values = op.cast(row, ran), op.cast(values, ran)
    rank = len(op.dims(row))
    f = Formula(op, ran)
    spread = (*op.dims(values), 1)
    each = op.emit("Unsqueeze", values, numbers(op, -1), type=TensorType(ran, spread))
    if rank > 1:
        dims = op.dims(row)
        shape = (*dims[:-1], 1, dims[-1])
        row = op.emit("Unsqueeze", row, numbers(op, -2), type=TensorType(ran, shape))
    right = op.flag("right", False)
    before = op.cast(f("LessOrEqual" if right else "Less", row, each), INT64)
    found = op.emit(
        "ReduceSum", before, numbers(op, -1), type=TensorType(INT64, values.shape), keepdims=0
    )
    return op.cast(found, op.output.dtype)


@converts("Unique", arguments="x")
def unique(op: Operator) -> Value:
    """Each element once, in the order of their first places, and where each of x is among them."""
    values, places = op.outputs
    ran = summable(values.dtype)
    row = TensorType(INT64, (-1,))
    found, _, inverse, _ = op.emit_several(
        "Unique", op.tensor("x", ran), types=[TensorType(ran, values.shape), row, row, row],
        sorted=0,
    )  # fmt: skip
    where = op.emit("Reshape", inverse, lengths_of(op, op.tensor("x")), type=TensorType(
        INT64, places.shape))  # fmt: skip
    return op.cast(found, values.dtype), op.cast(where, places.dtype)


@converts("ReverseSequence", arguments="x lengths")
def reverse_sequence(op: Operator) -> Tensor:
    """The first elements of each sequence the other way round; what is behind them stays.

    ONNX takes the first two axes alone, so that others are moved there and back.
    """
    x, lengths = op.tensor("x"), op.tensor("lengths", INT64)
    dims = op.dims(x)
    time, batch = (
        op.axis(op.integer(n, d), len(dims)) for n, d in (("seq_dim", 1), ("batch_dim", 0))
    )
    if time == batch:
        op.refuse("turns round the axis of its batch")
    order = [batch, time, *(i for i in range(len(dims)) if i not in (batch, time))]
    moved = TensorType(x.dtype, tuple(dims[i] for i in order))
    x = op.emit("Transpose", x, type=moved, perm=order)
    x = op.emit("ReverseSequence", x, lengths, type=moved, batch_axis=0, time_axis=1)
    return op.emit("Transpose", x, perm=[int(i) for i in np.argsort(order)])
