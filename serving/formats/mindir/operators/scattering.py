"""Elements and slices of a tensor replaced or added to, by index.

Sources: the docstrings of ``mindspore.mint`` scatter, scatter_add, ``mindspore.ops``
TensorScatterElements, TensorScatterUpdate, TensorScatterAdd, ScatterNd (2.0 to 2.10), and
https://onnx.ai/onnx/operators/onnx__ScatterElements.html, onnx__ScatterND.html.
"""

from __future__ import annotations

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.views import lengths_of, numbers
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import INT64

_REDUCE = {0: "NONE", 1: "ADD"}
"""How 2.3 and later number ``reduce`` (mindspore/ops/op_def/op_enum.h)."""


def _by_elements(op: Operator, axis: int, reduction: str) -> Tensor:
    """Put one element for each index; of updates only as many are read as there are indices."""
    dtype = op.output.dtype
    x, index = op.tensor("x", dtype), op.tensor("index", INT64)
    source = op.tensor("source", dtype)
    if source.shape != index.shape:
        rank = len(op.dims(index))
        starts = numbers(op, *[0] * rank)
        source = op.emit("Slice", source, starts, lengths_of(op, index), type=TensorType(
            dtype, index.shape))  # fmt: skip
    return op.emit("ScatterElements", x, index, source, axis=axis, reduction=reduction)


@converts("Scatter", arguments="x dim index source reduce")
def scatter(op: Operator) -> Tensor:
    """One element for each index along an axis, in place of what is there or added to it."""
    return _by_elements(op, op.integer("dim"), op.choice("reduce", _REDUCE, "NONE").lower())


@converts("ScatterAddExt", arguments="x dim index source")
def scatter_add(op: Operator) -> Tensor:
    """One element added for each index along an axis."""
    return _by_elements(op, op.integer("dim"), "add")


@converts("TensorScatterElements", arguments="x index source axis reduce|reduction")
def scatter_elements(op: Operator) -> Tensor:
    """One element for each index along an axis, in place of what is there or added to it."""
    reduction = op.choice("reduce|reduction", _REDUCE, "NONE").lower()
    return _by_elements(op, op.integer("axis", 0), reduction)


_ROWS = {
    "TensorScatterUpdate": "none", "TensorScatterAdd": "add", "TensorScatterMul": "mul",
}  # fmt: skip


@converts(*_ROWS, arguments="x indices updates")
def scatter_rows(op: Operator) -> Tensor:
    """A slice for each row of indices, in place of what is there or combined with it."""
    dtype = op.output.dtype
    return op.emit(
        "ScatterND", op.tensor("x", dtype), op.tensor("indices", INT64),
        op.tensor("updates", dtype), reduction=_ROWS[op.node.operator],
    )  # fmt: skip


@converts("ScatterNd", arguments="indices updates shape")
def scatter_nd(op: Operator) -> Tensor:
    """A slice for each row of indices, added to zeros in a shape."""
    dtype = op.output.dtype
    zero = op.constant(np.array(0, dtype.numpy))
    x = op.emit("Expand", zero, op.vector("shape"))
    return op.emit(
        "ScatterND", x, op.tensor("indices", INT64), op.tensor("updates", dtype), reduction="add"
    )


@converts("TensorScatterSub", arguments="x indices updates")
def scatter_less(op: Operator) -> Tensor:
    """A slice for each row of indices, taken away from what is there."""
    dtype = op.output.dtype
    updates = op.tensor("updates", dtype)
    return op.emit(
        "ScatterND", op.tensor("x", dtype), op.tensor("indices", INT64),
        op.emit("Neg", updates, type=updates.type), reduction="add",
    )  # fmt: skip


@converts("ScatterValue", arguments="x dim index value reduce")
def scatter_value(op: Operator) -> Tensor:
    """One number for each index along an axis, in place of what is there or added to it."""
    dtype = op.output.dtype
    index = op.tensor("index", INT64)
    value = op.reshape(op.tensor("value", dtype), ())
    source = op.emit("Expand", value, lengths_of(op, index), type=TensorType(dtype, index.shape))
    return op.emit(
        "ScatterElements", op.tensor("x", dtype), index, source, axis=op.integer("dim"),
        reduction=op.choice("reduce", _REDUCE, "NONE").lower(),
    )  # fmt: skip


@converts("IndexAddExt", arguments="x dim index source alpha")
def index_add(op: Operator) -> Tensor:
    """The slices of an axis that the index names, each with ``alpha`` times a slice added."""
    dtype = op.output.dtype
    x, source = op.tensor("x", dtype), op.tensor("source", dtype)
    axis = op.axis(op.integer("dim"), len(op.dims(x)))
    alpha = op.number("alpha", 1)
    if alpha != 1:
        factor = op.constant(np.array(alpha, dtype.numpy))
        source = op.emit("Mul", source, factor, type=source.type)
    index = op.reshape(op.tensor("index", INT64), (-1, *(1,) * (len(op.dims(x)) - 1 - axis)))
    spread = op.emit("Expand", index, lengths_of(op, source), type=TensorType(INT64, source.shape))
    return op.emit("ScatterElements", x, spread, source, axis=axis, reduction="add")
