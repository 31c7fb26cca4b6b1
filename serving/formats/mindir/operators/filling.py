"""Tensors made of a number or of a rule: constants, ranges, triangles, masks.

Sources: the docstrings of ``mindspore.ops`` Zeros, OnesLike, Fill, Eye, Range, LinSpace, Tril
and ``mindspore.mint`` full, arange, linspace, tril (2.0 to 2.10), and
https://onnx.ai/onnx/operators/onnx__Trilu.html, onnx__Range.html. Sizes are left to ONNX.
"""

from __future__ import annotations

import numpy as np

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.accumulation import summable
from serving.formats.mindir.operators.selection import one_hot
from serving.formats.mindir.operators.views import lengths_of
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Known, Tensor, Value
from serving.tensor import BOOL, FP64, INT64

_LIKE = {"ZerosLike": 0, "ZerosLikeExt": 0, "OnesLike": 1, "OnesLikeExt": 1}
_OF_SHAPE = {"Zeros": 0, "Ones": 1}


@converts(*_LIKE, arguments="x dtype")
def constant_like(op: Operator) -> Tensor:
    """Zeros or ones in the shape of another tensor."""
    value = op.constant(np.array(_LIKE[op.node.operator], op.output.dtype.numpy))
    return op.emit("Expand", value, lengths_of(op, op.tensor("x")))


@converts("FullLike", arguments="x value dtype")
def full_like(op: Operator) -> Tensor:
    """One number in the shape of another tensor."""
    value = op.reshape(op.tensor("value", op.output.dtype), ())
    return op.emit("Expand", value, lengths_of(op, op.tensor("x")))


@converts("Zeros", "Ones", arguments="shape dtype")
def constant_of_shape(op: Operator) -> Tensor:
    """Zeros or ones in a shape."""
    value = op.constant(np.array(_OF_SHAPE[op.node.operator], op.output.dtype.numpy))
    return op.emit("Expand", value, op.vector("shape"))


@converts("FillScalar", "FillTensor", "FillV2", arguments="shape value dtype")
def full(op: Operator) -> Tensor:
    """One number in a shape."""
    value = op.reshape(op.tensor("value", op.output.dtype), ())
    return op.emit("Expand", value, op.vector("shape"))


@converts("Fill", arguments="dtype shape value")
def fill(op: Operator) -> Value:
    """One number in a shape, in the order of 2.0."""
    return full(op)


@converts("Eye", arguments="n m dtype")
def eye(op: Operator) -> Tensor:
    """Ones where row and column are the same, zeros elsewhere."""
    zero, one = (op.constant(np.array(n, np.int64)) for n in (0, 1))
    row = TensorType(INT64, (-1,))
    lines, columns = (
        op.emit("Range", zero, op.reshape(op.tensor(n, INT64), ()), one, type=row)
        for n in ("n", "m")
    )
    same = op.emit(
        "Equal", op.reshape(lines, (-1, 1)), columns, type=TensorType(BOOL, op.output.shape)
    )
    return op.cast(same, op.output.dtype)


@converts("Tril", "Triu", "TrilExt", "TriuExt", arguments="x diagonal")
def triangle(op: Operator) -> Tensor:
    """The part on and below (or above) a diagonal, zeros elsewhere: Trilu."""
    dtype = op.output.dtype
    ran = dtype if dtype is BOOL else summable(dtype)
    found = op.emit(
        "Trilu", op.tensor("x", ran), op.constant(np.array(op.integer("diagonal", 0), np.int64)),
        type=TensorType(ran, op.output.shape), upper=int(op.node.operator.startswith("Triu")),
    )  # fmt: skip
    return op.cast(found, dtype)


@converts("Range", arguments="start end|limit step|delta maxlen")
def range_(op: Operator) -> Tensor:
    """From a number up or down to another, without it: Range."""
    return _range(op, "start", "end|limit", "step|delta")


@converts("Arange", arguments="start end step dtype")
def arange(op: Operator) -> Tensor:
    """The form of ``mint``, whose output may be of another type."""
    return _range(op, "start", "end", "step")


def _range(op: Operator, *names: str) -> Tensor:
    dtype = summable(op.output.dtype)
    given = [op.reshape(op.tensor(n, dtype), ()) for n in names]
    return op.cast(op.emit("Range", *given, type=TensorType(dtype, (-1,))), op.output.dtype)


@converts("LinSpace", "LinSpaceExt", arguments="start end|stop steps|num dtype")
def lin_space(op: Operator) -> Tensor:
    """``steps`` numbers from one to another, both included, evenly; a single one is the first.

    Counted from whichever end is nearer, so that both ends are exact.
    """
    if op.output.dtype.name.startswith(("INT", "UINT")):
        op.refuse("spreads whole numbers evenly")
    f = Formula(op, FP64)
    start, end = (op.reshape(f.tensor(n), ()) for n in ("start", "end|stop"))
    count = op.reshape(op.tensor("steps|num", INT64), ())
    zero, one = (op.constant(np.array(n, np.int64)) for n in (0, 1))
    place = op.cast(op.emit("Range", zero, count, one, type=TensorType(INT64, (-1,))), FP64)
    last = f("Sub", op.cast(count, FP64), 1)
    step = f("Div", f("Sub", end, start), f("Max", last, 1))
    rest = f("Sub", last, place)
    up = f("Add", start, f("Mul", step, place))
    down = f("Sub", end, f("Mul", step, rest))
    from_start = f("LessOrEqual", place, rest)
    return op.cast(f("Where", from_start, up, down), op.output.dtype)


@converts("OneHotExt", arguments="indices depth on_value off_value axis")
def one_hot_ext(op: Operator) -> Value:
    """As OneHot; a depth of -1 means the greatest index and one, a shape that data decides."""
    if isinstance(op.value("depth"), Known) and op.integer("depth") < 0:
        op.refuse("takes the number of classes from its data")
    return one_hot(op)
