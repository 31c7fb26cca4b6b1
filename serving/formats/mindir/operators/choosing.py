"""Elements of one tensor or another, by a condition.

Sources: the docstrings of ``mindspore.ops`` Select, MaskedFill, IndexFill (2.0 to 2.10) and
https://onnx.ai/onnx/operators/onnx__Where.html.
"""

from __future__ import annotations

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import BOOL, INT64

_RUN = ("FP16", "FP32", "FP64", "INT32", "INT64", "UINT8")
"""What ONNX Runtime's Where takes of the numbers; all others fit into INT64."""


def chosen(op: Operator, condition: Tensor, x: Tensor, y: Tensor, stated: TensorType) -> Tensor:
    """Return x where the condition holds, else y: Where, in a type that ONNX Runtime has."""
    dtype = x.dtype
    if dtype.name == "UINT64":
        op.refuse("chooses among numbers of UINT64, which INT64 does not hold")
    ran = dtype if dtype.name in _RUN else INT64
    found = op.emit(
        "Where", condition, op.cast(x, ran), op.cast(y, ran), type=TensorType(ran, stated.shape)
    )
    return op.cast(found, dtype)


@converts("Select", arguments="condition x y")
def select(op: Operator) -> Tensor:
    """``x`` where the condition holds, else ``y``."""
    dtype = op.output.dtype
    x, y = op.tensor("x", dtype), op.tensor("y", dtype)
    return chosen(op, op.tensor("condition", BOOL), x, y, op.output)


@converts("MaskedFill", "MaskedFillScalar", arguments="x mask value")
def masked_fill(op: Operator) -> Tensor:
    """A number where the mask holds, else x."""
    dtype = op.output.dtype
    value = op.reshape(op.tensor("value", dtype), ())
    return chosen(op, op.tensor("mask", BOOL), value, op.tensor("x", dtype), op.output)


@converts("IndexFill", "IndexFillScalar", "IndexFillTensor", arguments="x dim index value")
def index_fill(op: Operator) -> Tensor:
    """A number at some places of an axis, counted from either end, else x."""
    dtype = op.output.dtype
    x = op.tensor("x", dtype)
    rank = len(op.dims(x))
    axis = op.axis(op.integer("dim"), rank)
    row, truth = TensorType(INT64, (-1,)), TensorType(BOOL, None)
    zero, one, at = (op.constant(np.array(n, np.int64)) for n in (0, 1, axis))
    lengths = op.emit("Shape", x, type=TensorType(INT64, (rank,)))
    length = op.emit("Gather", lengths, at, type=TensorType(INT64, ()), axis=0)
    index = op.reshape(op.tensor("index", INT64), (1, -1))
    below = op.emit("Less", index, zero, type=truth)
    around = op.emit("Add", index, length, type=index.type)
    index = op.emit("Where", below, around, index, type=index.type)
    places = op.reshape(op.emit("Range", zero, length, one, type=row), (-1, 1))
    same = op.cast(op.emit("Equal", places, index, type=truth), INT64)
    met = op.emit("ReduceSum", same, op.constant(np.array([1])), type=row, keepdims=0)
    mask = op.reshape(op.cast(met, BOOL), (-1, *(1,) * (rank - 1 - axis)))
    value = op.reshape(op.tensor("value", dtype), ())
    return chosen(op, mask, value, x, op.output)
