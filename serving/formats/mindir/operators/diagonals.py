"""Diagonals of matrices: taken out, summed, and put in.

Sources: the docstrings of ``mindspore.ops`` Diag, Trace, MatrixSetDiagV3 and
``mindspore.mint`` diagonal, trace (2.0 to 2.10). A diagonal is a Slice of the matrix' elements in
a row, one step being a row and one.
"""

from __future__ import annotations

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.choosing import chosen
from serving.formats.mindir.operators.reduction import total
from serving.formats.mindir.operators.views import lengths_of, numbers
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import BOOL, INT64

_ROW = TensorType(INT64, (-1,))
_TRUTH = TensorType(BOOL, None)


def _places(op: Operator, count: Tensor) -> Tensor:
    """Return 0, 1, ... as a vector; the count is a number of one element."""
    zero, one = (op.reshape(numbers(op, n), ()) for n in (0, 1))
    return op.emit("Range", zero, op.reshape(count, ()), one, type=_ROW)


def _put(op: Operator) -> Tensor:
    """Return zeros but for x on the diagonal, of the axes of x twice over."""
    x = op.tensor("x")
    rank = len(op.dims(x))
    if not rank:
        op.refuse("makes a diagonal of a single number")
    flat = op.reshape(x, (-1,))
    places = _places(op, lengths_of(op, flat))
    here = op.emit("Equal", places, op.reshape(places, (-1, 1)), type=_TRUTH)
    zero = op.constant(np.array(0, x.dtype.numpy))
    found = chosen(op, here, flat, zero, TensorType(x.dtype, (-1, -1)))
    if rank == 1:
        return op.emit("Identity", found)
    lengths = lengths_of(op, x)
    twice = op.emit("Concat", lengths, lengths, type=TensorType(INT64, (2 * rank,)), axis=0)
    return op.emit("Reshape", found, twice)


@converts("Diag", arguments="x")
def diagonal_matrix(op: Operator) -> Tensor:
    """Zeros but for x on the diagonal: the axes of x twice over, so of a vector a matrix."""
    return _put(op)


def _taken(op: Operator, x: Tensor, offset: int, one: int, other: int) -> Tensor:
    """Return a diagonal of the matrices along two axes, as a new last axis."""
    dims = op.dims(x)
    one, other = op.axis(one, len(dims)), op.axis(other, len(dims))
    rows, columns = dims[one], dims[other]
    if one == other or min(rows, columns) < 0:
        op.refuse("takes the diagonal of matrices whose size varies, or along one axis")
    rest = [i for i in range(len(dims)) if i not in (one, other)]
    kept = tuple(dims[i] for i in rest)
    order = [*rest, one, other]
    x = op.emit("Transpose", x, type=TensorType(x.dtype, (*kept, rows, columns)), perm=order)
    x = op.reshape(x, (*[0] * len(rest), rows * columns))
    count = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    first = offset if offset > 0 else -offset * columns
    end = first + (count - 1) * (columns + 1) + 1 if count else first
    return op.emit(
        "Slice", x, numbers(op, first), numbers(op, end), numbers(op, -1),
        numbers(op, columns + 1), type=TensorType(x.dtype, (*kept, count)),
    )  # fmt: skip


@converts("Diagonal", "DiagonalView", arguments="x offset dim1 dim2")
def diagonal(op: Operator) -> Tensor:
    """The elements of a diagonal of the matrices along two axes, as a new last axis."""
    offset = op.integer("offset", 0)
    found = _taken(op, op.tensor("x"), offset, op.integer("dim1", 0), op.integer("dim2", 1))
    return op.emit("Identity", found)


@converts("Trace", "TraceExt", arguments="x")
def trace(op: Operator) -> Tensor:
    """The sum of the diagonal of a matrix."""
    x = op.tensor("x", op.output.dtype)
    if len(op.dims(x)) != 2:
        op.refuse("sums the diagonal of what is no matrix")
    return total(op, _taken(op, x, 0, 0, 1), (0,), keep=False, stated=op.output)


@converts("DiagExt", arguments="x diagonal")
def diagonal_or_matrix(op: Operator) -> Tensor:
    """The diagonal of a matrix; of a vector the matrix that has it there."""
    offset, rank = op.integer("diagonal", 0), len(op.dims(op.tensor("x")))
    if rank == 2:
        return op.emit("Identity", _taken(op, op.tensor("x"), offset, 0, 1))
    if rank != 1 or offset:
        op.refuse("puts a vector on another diagonal than the main one")
    return _put(op)


@converts("MatrixSetDiagV3", arguments="x diagonal k")
def with_diagonal(op: Operator) -> Tensor:
    """The main diagonal of each matrix replaced."""
    if op.integers("k", (0,)) not in ((0,), (0, 0)):
        op.refuse("replaces other diagonals than the main one")
    x = op.tensor("x")
    rows, columns = op.dims(x)[-2:]
    if min(rows, columns) < 0:
        op.refuse("replaces the diagonal of matrices whose size varies")
    line, column = (_places(op, numbers(op, n)) for n in (rows, columns))
    here = op.emit("Equal", op.reshape(line, (-1, 1)), column, type=_TRUTH)
    # An element of the diagonal lies in its row and its column: it spreads along the longer.
    along = numbers(op, -1 if rows <= columns else -2)
    put = op.emit(
        "Unsqueeze", op.tensor("diagonal", x.dtype), along, type=TensorType(x.dtype, None)
    )
    return chosen(op, here, put, x, op.output)
