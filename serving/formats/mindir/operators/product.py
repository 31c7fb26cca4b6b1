"""Products of matrices and vectors with sums around them, and rows of tables.

Sources: the docstrings of ``mindspore.mint`` addmm, baddbmm, addbmm, addmv, mv, dot, outer,
embedding (2.3 to 2.10) and https://onnx.ai/onnx/operators/onnx__Einsum.html.
"""

from __future__ import annotations

import numpy as np

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import INT64


@converts("Mm", "Mv", "Dot", arguments="x y")
def product(op: Operator) -> Tensor:
    """The product of matrices and vectors: MatMul, which takes either."""
    dtype = op.output.dtype
    return op.emit("MatMul", op.tensor("x", dtype), op.tensor("y", dtype))


@converts("Outer", "Ger", arguments="x y")
def outer(op: Operator) -> Tensor:
    """Every element of one vector times every one of the other."""
    dtype = op.output.dtype
    return op.emit("Mul", op.reshape(op.tensor("x", dtype), (-1, 1)), op.tensor("y", dtype))


@converts("Addmm", "Addmv", "Baddbmm", "Addbmm", arguments="x one other beta alpha")
def added_product(op: Operator) -> Tensor:
    """``beta * x + alpha * (one @ other)``; Addbmm also sums over the batch.

    With a beta of 0 the values of x, NaN among them, play no part.
    """
    f = Formula(op)
    one, other = f.tensor("one"), f.tensor("other")
    found = op.emit("MatMul", one, other, type=TensorType(f.dtype, None))
    if op.node.operator == "Addbmm":
        batch = op.constant(np.array([0], np.int64))
        found = op.emit("ReduceSum", found, batch, keepdims=0)
    alpha, beta = op.number("alpha", 1), op.number("beta", 1)
    if alpha != 1:
        found = f("Mul", found, alpha)
    x = f.tensor("x")
    if beta == 0:
        lengths = op.emit("Shape", x, type=TensorType(INT64, (-1,)))
        x = op.emit("Expand", f.number(0), lengths, type=x.type)
    elif beta != 1:
        x = f("Mul", x, beta)
    return op.emit("Add", x, found)


@converts("Einsum", arguments="tensors equation")
def einsum(op: Operator) -> Tensor:
    """Sums of products by Einstein's notation: Einsum."""
    equation = op.text("equation")
    return op.emit("Einsum", *op.tensors("tensors", op.output.dtype), equation=equation)


@converts("Embedding", arguments="indices table padding_idx max_norm norm_type scale_grad_by_freq")
def embedding(op: Operator) -> Tensor:
    """Rows of a table: Gather. The row for padding is read as it is; only training skips it."""
    if op.has("max_norm"):
        op.refuse("shortens the rows of its table (max_norm)")
    return op.emit("Gather", op.tensor("table"), op.tensor("indices", INT64), axis=0)


_FIRST_OF_THREE = -65530
"""What MindSpore writes for: the first axis of length 3."""


@converts("Cross", arguments="x y dim")
def cross(op: Operator) -> Tensor:
    """The cross product of vectors of three along an axis."""
    f = Formula(op)
    x, y = f.tensor("x"), f.tensor("y")
    lengths = op.dims(op.tensor("x"))
    dim = op.integer("dim", _FIRST_OF_THREE)
    if dim == _FIRST_OF_THREE:
        if 3 not in lengths:
            op.refuse("has no axis of length 3")
        dim = lengths.index(3)
    axis = op.axis(dim, len(lengths))

    def turned(tensor: Tensor, *order: int) -> Tensor:
        places = op.constant(np.array(order, np.int64))
        return op.emit("Gather", tensor, places, type=tensor.type, axis=axis)

    return f(
        "Sub",
        f("Mul", turned(x, 1, 2, 0), turned(y, 2, 0, 1)),
        f("Mul", turned(x, 2, 0, 1), turned(y, 1, 2, 0)),
    )
