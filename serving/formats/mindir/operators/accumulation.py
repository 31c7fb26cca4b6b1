"""Running sums, products and extremes along an axis.

Sources: the docstrings of ``mindspore.ops`` CumSum, CumProd, Cummax, Cummin and
``mindspore.mint.cumsum`` (2.0 to 2.10), and https://onnx.ai/onnx/operators/onnx__CumSum.html,
onnx__Scan.html. ONNX has a running sum alone; the others are a Scan.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np
import onnx

from serving.formats.mindir.builder import value_info
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.elementary import is_whole
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor, Value
from serving.tensor import BOOL, FP16, FP32, INT64, DType


def summable(dtype: DType) -> DType:
    """Return a type that ONNX Runtime sums in and that rounds or wraps to the same result."""
    if dtype in (BOOL, INT64) or not is_whole(TensorType(dtype, ())):
        return INT64 if dtype is BOOL else FP32 if dtype is FP16 else dtype
    return INT64


@converts("CumSum", arguments="x axis exclusive reverse")
def running_sum(op: Operator) -> Tensor:
    """Sums of all before and, unless it is exclusive, at each place: CumSum."""
    return _summed(op, op.integer("axis"))


@converts("CumsumExt", arguments="x dim dtype")
def running_sum_ext(op: Operator) -> Tensor:
    """The form of ``mint``, whose output may be of another type."""
    return _summed(op, op.integer("dim"))


def _summed(op: Operator, axis: int) -> Tensor:
    dtype = summable(op.output.dtype)
    found = op.emit(
        "CumSum", op.tensor("x", dtype), op.constant(np.array(axis, np.int64)),
        type=TensorType(dtype, op.output.shape), exclusive=int(op.flag("exclusive", False)),
        reverse=int(op.flag("reverse", False)),
    )  # fmt: skip
    return op.cast(found, op.output.dtype)


class Body:
    """The body of a Scan or Loop under construction: nodes on values known by name."""

    nodes: list[onnx.NodeProto]

    def __init__(self, op: Operator) -> None:
        self._op = op
        self.nodes = []

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        output = self._op.fresh("step")
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def named(self, stated: TensorType) -> Tensor:
        """Return a value that enters the body."""
        return Tensor(self._op.fresh("step"), stated)

    def graph(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> onnx.GraphProto:
        """Return the body: states, then slices, to states, then slices."""
        infos = [[value_info(t.name, t.type) for t in side] for side in (inputs, outputs)]
        return onnx.helper.make_graph(self.nodes, self._op.fresh("scan"), *infos)


def _slice_type(op: Operator, x: Tensor, axis: int) -> TensorType:
    dims = op.dims(x)
    return TensorType(x.dtype, (*dims[:axis], *dims[axis + 1 :]))


@converts("CumProd", arguments="x axis exclusive reverse")
def running_product(op: Operator) -> Tensor:
    """Products of all before and, unless it is exclusive, at each place: a Scan of Mul."""
    dtype = summable(op.output.dtype)
    x = op.tensor("x", dtype)
    axis = op.axis(op.integer("axis"), len(op.dims(x)))
    row = _slice_type(op, x, axis)
    others = [i for i in range(len(op.dims(x))) if i != axis]
    lengths = op.emit("Shape", x, type=TensorType(INT64, (len(op.dims(x)),)))
    kept = op.emit(
        "Gather", lengths, op.constant(np.array(others, np.int64)),
        type=TensorType(INT64, (len(others),)), axis=0,
    )  # fmt: skip
    start = op.emit("Expand", op.constant(np.array(1, dtype.numpy)), kept, type=row)
    body = Body(op)
    total, item = body.named(row), body.named(row)
    new = body("Mul", total.name, item.name)
    given = body("Identity", total.name if op.flag("exclusive", False) else new)
    backwards = int(op.flag("reverse", False))
    _, found = op.emit_several(
        "Scan", start, x, types=[row, TensorType(dtype, op.output.shape)],
        num_scan_inputs=1, scan_input_axes=[axis], scan_output_axes=[axis],
        scan_input_directions=[backwards], scan_output_directions=[backwards],
        body=body.graph([total, item], [Tensor(new, row), Tensor(given, row)]),
    )  # fmt: skip
    return op.cast(found, op.output.dtype)


@converts("Cummax", "Cummin", "CummaxExt", "CumminExt", arguments="x axis|dim")
def running_extreme(op: Operator) -> Value:
    """The greatest or least up to each place, and where it is: of equals the last."""
    values, places = op.outputs
    dtype = summable(values.dtype)
    x = op.tensor("x", dtype)
    axis = op.axis(op.integer("axis|dim"), len(op.dims(x)))
    row = _slice_type(op, x, axis)
    at = TensorType(INT64, row.shape)
    turn_type = TensorType(INT64, ())
    zero = op.constant(np.array(0, np.int64))
    one = op.constant(np.array(1, np.int64))
    first = op.emit("Gather", x, zero, type=row, axis=axis)
    lengths = op.emit("Shape", first, type=TensorType(INT64, (len(op.dims(x)) - 1,)))
    nowhere = op.emit("Expand", zero, lengths, type=at)
    body = Body(op)
    best, where, turn, item = (body.named(t) for t in (row, at, turn_type, row))
    greatest = op.node.operator.startswith("Cummax")
    take = body("GreaterOrEqual" if greatest else "LessOrEqual", item.name, best.name)
    if not is_whole(x):
        take = body("Or", take, body("IsNaN", item.name))
    new = Tensor(body("Where", take, item.name, best.name), row)
    new_at = Tensor(body("Where", take, turn.name, where.name), at)
    next_turn = Tensor(body("Add", turn.name, one.name), turn_type)
    kept = [Tensor(body("Identity", t.name), t.type) for t in (new, new_at)]
    shape = op.dims(x)
    *_, found, found_at = op.emit_several(
        "Scan", first, nowhere, zero, x,
        types=[row, at, turn_type, TensorType(dtype, shape), TensorType(INT64, shape)],
        num_scan_inputs=1, scan_input_axes=[axis], scan_output_axes=[axis, axis],
        body=body.graph([best, where, turn, item], [new, new_at, next_turn, *kept]),
    )  # fmt: skip
    return op.cast(found, values.dtype), op.cast(found_at, places.dtype)
