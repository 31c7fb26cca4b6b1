"""Other shapes for the same elements, and shapes as values.

Sources: ``mindspore.ops`` Flatten, Reshape, ExpandDims, Squeeze, Transpose, Concat, Shape
(docstrings of 2.0 and 2.10) and https://onnx.ai/onnx/operators for what they become.
"""

from __future__ import annotations

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Known, Tensor, Value
from serving.tensor import INT64


@converts("Flatten", arguments="x")
def flatten(op: Operator) -> Tensor:
    """All axes but the first as one: Flatten at axis 1."""
    return op.emit("Flatten", op.tensor("x"), axis=1)


@converts("Reshape", arguments="x shape")
def reshape(op: Operator) -> Tensor:
    """Reshape to lengths that are constants, -1 among them, or computed.

    A 0 means a length of zero in MindSpore and "as before" in ONNX unless ``allowzero`` is set;
    set always, it would forbid a -1 beside it.
    """
    target = op.vector("shape")
    zero = op.output.shape is not None and 0 in op.output.shape
    return op.emit("Reshape", op.tensor("x"), target, allowzero=1 if zero else None)


@converts("ExpandDims", arguments="x axis")
def expand_dims(op: Operator) -> Tensor:
    """A new axis of length 1: Unsqueeze."""
    axes = op.constant(np.array(op.integers("axis"), np.int64))
    return op.emit("Unsqueeze", op.tensor("x"), axes)


@converts("Squeeze", arguments="x axis")
def squeeze(op: Operator) -> Tensor:
    """Without axes of length 1: those named, or all."""
    axes = op.integers("axis", ())
    chosen = op.constant(np.array(axes, np.int64)) if axes else None
    return op.emit("Squeeze", op.tensor("x"), chosen)


@converts("Transpose", arguments="x perm")
def transpose(op: Operator) -> Tensor:
    """Axes in another order: Transpose."""
    x = op.tensor("x")
    rank = len(op.dims(x))
    order = [op.axis(a, rank) for a in op.integers("perm")]
    return op.emit("Transpose", x, perm=order)


@converts("Concat", arguments="tensors axis")
def concat(op: Operator) -> Tensor:
    """Tensors one after the other along an axis: Concat."""
    return op.emit("Concat", *op.tensors("tensors", op.output.dtype), axis=op.integer("axis", 0))


@converts("Shape", "TensorShape", arguments="x")
def shape(op: Operator) -> Value:
    """The lengths of a tensor: constants where they are fixed, else taken from ONNX's Shape.

    ``Shape`` gives a tuple of numbers, ``TensorShape`` a tensor of one axis.
    """
    x = op.tensor("x")
    dims = op.dims(x)
    if op.node.operator == "TensorShape":
        return op.emit("Shape", x, type=TensorType(INT64, (len(dims),)))
    if all(n >= 0 for n in dims):
        return tuple(Known(n) for n in dims)
    lengths = op.emit("Shape", x, type=TensorType(INT64, (len(dims),)))
    return tuple(Known(n) if n >= 0 else _length(op, lengths, i) for i, n in enumerate(dims))


def _length(op: Operator, lengths: Tensor, axis: int) -> Tensor:
    place = op.constant(np.array(axis, np.int64))
    return op.emit("Gather", lengths, place, type=TensorType(INT64, ()), axis=0)
