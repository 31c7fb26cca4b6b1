"""Recurrent layers: LSTM and GRU over all steps of a sequence.

Sources: ``mindspore.ops`` LSTM, CudnnGRU, DynamicRNN, DynamicGRUV2 (docstrings of 2.0 and 2.10),
``mindspore.nn.layer.rnns`` for the layout of their weights, and
https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html.

MindSpore keeps the gates of an LSTM as input, forget, cell, output (DynamicRNN: input, cell,
forget, output) and those of a GRU as reset, update, new; ONNX as input, output, forget, cell and
as update, reset, hidden.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.accumulation import Body
from serving.formats.mindir.operators.views import numbers
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Absent, Tensor, Value
from serving.tensor import FP32, DType

_LSTM = (0, 3, 1, 2)
"""Where ONNX's input, output, forget and cell gates lie among MindSpore's."""
_GRU = (1, 0, 2)
"""Where ONNX's update, reset and hidden gates lie among MindSpore's reset, update, new."""


def _loose(dtype: DType = FP32) -> TensorType:
    return TensorType(dtype, None)


def _cut(op: Operator, x: Tensor, first: int, last: int, axis: int = 0) -> Tensor:
    """Return a range along one axis."""
    places = (numbers(op, first), numbers(op, last), numbers(op, axis))
    return op.emit("Slice", x, *places, type=TensorType(x.dtype, None))


def _ordered(op: Operator, x: Tensor, order: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return a tensor whose axis 1 holds gates one after the other, in another order of gates."""
    gates = op.reshape(x, (shape[0], len(order), -1, *shape[2:]))
    found = op.emit("Gather", gates, numbers(op, *order), type=gates.type, axis=1)
    return op.reshape(found, shape)


class _Flat:
    """The weights of one layer, which lie one after the other in a single tensor.

    For every direction first the input weights (gates, inputs), for every one the hidden ones,
    then the biases: one sum for each gate as MindSpore's CPU backend has them, or both terms.
    """

    def __init__(self, op: Operator, order: Sequence[int]) -> None:
        self._op, self._order = op, order
        self._given = op.reshape(op.tensor("w", FP32), (-1,))
        inputs, self.hidden = op.integer("input_size"), op.integer("hidden_size")
        self.directions = 2 if op.flag("bidirectional", False) else 1
        if op.integer("num_layers") != 1:
            op.refuse("stacks several layers in one operator")
        gates = len(order) * self.hidden
        sizes = [gates * inputs, gates * self.hidden]
        total = int(np.prod(op.static_dims(op.tensor("w"))))
        left, rest = divmod(total - sum(sizes) * self.directions, self.directions * gates)
        biased = op.flag("has_bias", True)
        if rest or left not in ((1, 2) if biased else (0,)):
            op.refuse(f"has {total} weights, which is no layer of its sizes")
        if self.directions == 2 and left == 2:
            op.refuse("keeps two directions with both terms of their biases in one operator")
        self._terms = left
        rows = self.directions
        start, end = 0, sizes[0] * rows
        self.input = self._part(start, end, (rows, gates, inputs))
        start, end = end, end + sizes[1] * rows
        self.recurrent = self._part(start, end, (rows, gates, self.hidden))
        self.bias = self._bias(end, gates) if biased else None

    def _part(self, start: int, end: int, shape: tuple[int, ...]) -> Tensor:
        return _ordered(self._op, _cut(self._op, self._given, start, end), self._order, shape)

    def _bias(self, start: int, gates: int) -> Tensor:
        rows = self.directions
        first = self._part(start, start + rows * gates, (rows, gates))
        if self._terms == 2:
            second = self._part(start + gates, start + 2 * gates, (rows, gates))
        else:
            none = np.array(0, np.float32)
            second = self._op.emit(
                "Expand", self._op.constant(none), numbers(self._op, rows, gates),
                type=TensorType(FP32, (rows, gates)),
            )  # fmt: skip
        return self._op.emit("Concat", first, second, type=_loose(), axis=1)


def _joined_directions(op: Operator, y: Tensor, stated: TensorType) -> Tensor:
    """Return (steps, batch, directions * hidden) of ONNX's (steps, directions, batch, hidden)."""
    turned = op.emit("Transpose", y, type=_loose(), perm=[0, 2, 1, 3])
    target = numbers(op, 0, 0, -1)
    return op.emit("Reshape", turned, target, type=TensorType(FP32, stated.shape))


def _direction(flat: _Flat) -> str:
    return "bidirectional" if flat.directions == 2 else "forward"


@converts("LSTM", arguments="x h c w")
def lstm(op: Operator) -> Value:
    """One layer, in one or both directions: (steps, batch, inputs) and both states: LSTM."""
    if op.integer("proj_size", 0):
        op.refuse("projects its output (proj_size)")
    flat = _Flat(op, _LSTM)
    y, h, c = op.emit_several(
        "LSTM", op.tensor("x", FP32), flat.input, flat.recurrent, flat.bias, None,
        op.tensor("h", FP32), op.tensor("c", FP32), types=[_loose()] * 3,
        hidden_size=flat.hidden, direction=_direction(flat),
    )  # fmt: skip
    found = (_joined_directions(op, y, op.outputs[0]), h, c)
    given = [op.cast(t, s.dtype) for t, s in zip(found, op.outputs, strict=False)]
    return (*given, *[Absent("memory for training")] * (len(op.outputs) - 3))


@converts("CudnnGRU", arguments="x h w")
def cudnn_gru(op: Operator) -> Value:
    """One layer, in one or both directions: (steps, batch, inputs) and the state: GRU."""
    flat = _Flat(op, _GRU)
    y, h = op.emit_several(
        "GRU", op.tensor("x", FP32), flat.input, flat.recurrent, flat.bias, None,
        op.tensor("h", FP32), types=[_loose()] * 2, hidden_size=flat.hidden,
        direction=_direction(flat), linear_before_reset=1,
    )  # fmt: skip
    found = (_joined_directions(op, y, op.outputs[0]), h)
    given = [op.cast(t, s.dtype) for t, s in zip(found, op.outputs, strict=False)]
    return (*given, *[Absent("memory for training")] * (len(op.outputs) - 2))


def _require_plain(op: Operator) -> None:
    """Refuse what neither MindSpore's documentation nor its layers allow."""
    if op.text("direction", "UNIDIRECTIONAL") != "UNIDIRECTIONAL":
        op.refuse("goes over its steps in another order than the first to the last")
    if op.integer("cell_depth", 1) != 1 or op.integer("num_proj", 0):
        op.refuse("stacks or projects its cells")
    if op.number("cell_clip", -1.0) > 0:
        op.refuse("clips its cells (cell_clip)")
    if not op.flag("time_major", True) or op.text("activation", "tanh") != "tanh":
        op.refuse("has the batch first or another activation than tanh")
    if op.has("seq_length"):
        op.refuse("takes lengths of its sequences (seq_length)")


def _transposed(op: Operator, x: Tensor) -> Tensor:
    """Return (inputs, gates) as (1, gates, inputs), as ONNX has a direction's weights."""
    turned = op.emit("Transpose", x, type=_loose(), perm=[1, 0])
    return op.emit("Unsqueeze", turned, numbers(op, 0), type=_loose())


@converts("DynamicGRUV2", arguments="x weight_input weight_hidden bias_input bias_hidden "
          "seq_length init_h")  # fmt: skip
def dynamic_gru(op: Operator) -> Value:
    """One layer of GRU; gives the output of every step twice. The gates' values it does not."""
    _require_plain(op)
    order = {"rzh": _GRU, "zrh": (0, 1, 2)}.get(op.text("gate_order", "rzh"))
    if order is None:
        op.refuse("has an unknown order of gates")
    hidden = op.static_dims(op.tensor("weight_hidden"))[0]
    gates = 3 * hidden
    inputs = op.static_dims(op.tensor("weight_input"))[0]
    w = _ordered(op, _transposed(op, op.tensor("weight_input", FP32)), order, (1, gates, inputs))
    r = _ordered(op, _transposed(op, op.tensor("weight_hidden", FP32)), order, (1, gates, hidden))
    bias = None
    if op.has("bias_input") or op.has("bias_hidden"):
        none = op.constant(np.zeros((1, 1), np.float32))
        parts = []
        for name in ("bias_input", "bias_hidden"):
            if op.has(name):
                parts.append(_ordered(op, op.tensor(name, FP32), order, (1, gates)))
            else:
                parts.append(op.emit("Expand", none, numbers(op, 1, gates), type=_loose()))
        bias = op.emit("Concat", *parts, type=_loose(), axis=1)
    # A state of rank 2 or 3, one direction either way.
    start = op.emit("Reshape", op.tensor("init_h", FP32), numbers(op, 1, -1, hidden), type=_loose())
    y, _ = op.emit_several(
        "GRU", op.tensor("x", FP32), w, r, bias, None, start, types=[_loose()] * 2,
        hidden_size=hidden, linear_before_reset=int(op.flag("reset_after", True)),
    )  # fmt: skip
    steps = op.emit("Squeeze", y, numbers(op, 1), type=TensorType(FP32, op.outputs[0].shape))
    given = [op.cast(steps, t.dtype) for t in op.outputs[:2]]
    return (*given, *[Absent("value of a gate at each step")] * (len(op.outputs) - 2))


@converts("DynamicRNN", arguments="x w b seq_length init_h init_c")
def dynamic_rnn(op: Operator) -> Value:
    """One layer of LSTM that also gives both states and all gates of every step.

    ONNX's LSTM gives the hidden states; the gates follow from them for all steps at once, and
    the cell states from the gates by a Scan. What nobody reads of this is left out later.
    """
    _require_plain(op)
    if op.text("cell_type", "LSTM") != "LSTM" or op.flag("use_peephole", False):
        op.refuse("is no LSTM, or one whose gates see the cell (use_peephole)")
    x, w = op.tensor("x", FP32), op.tensor("w", FP32)
    rows, gates = op.static_dims(w)
    hidden = gates // 4
    bias = _biased(op, hidden)
    order = (0, 3, 2, 1)
    split = rows - hidden
    start, cell = (
        op.emit("Reshape", op.tensor(n, FP32), numbers(op, 1, -1, hidden), type=_loose())
        for n in ("init_h", "init_c")
    )
    parts = [_transposed(op, _cut(op, w, *ends)) for ends in ((0, split), (split, rows))]
    y, _, _ = op.emit_several(
        "LSTM", x, _ordered(op, parts[0], order, (1, gates, split)),
        _ordered(op, parts[1], order, (1, gates, hidden)), _with_zeros(op, bias, order, gates),
        None, start, cell, types=[_loose()] * 3, hidden_size=hidden,
    )  # fmt: skip
    h = op.emit("Squeeze", y, numbers(op, 1), type=TensorType(FP32, op.outputs[0].shape))
    previous = op.emit("Concat", start, _cut(op, h, 0, -1), type=_loose(), axis=0)
    both = op.emit("Concat", x, previous, type=_loose(), axis=2)
    raw = op.emit("Add", op.emit("MatMul", both, w, type=_loose()), bias, type=_loose())
    pieces = op.emit_several("Split", raw, types=[h.type] * 4, axis=2)
    f = Formula(op, FP32)
    i, j, forget, o = (f("Tanh" if n == 1 else "Sigmoid", piece) for n, piece in enumerate(pieces))
    c = _cells(op, cell, forget, f("Mul", i, j), hidden)
    found = (h, h, c, i, j, forget, o, f("Tanh", c))
    return tuple(op.cast(t, s.dtype) for t, s in zip(found, op.outputs, strict=False))


def _biased(op: Operator, hidden: int) -> Tensor:
    """Return the biases of the input, cell, forget and output gates."""
    more = np.zeros(4 * hidden, np.float32)
    more[2 * hidden : 3 * hidden] = op.number("forget_bias", 0.0)
    bias = op.tensor("b", FP32)
    return op.emit("Add", bias, op.constant(more), type=bias.type) if more.any() else bias


def _with_zeros(op: Operator, bias: Tensor, order: Sequence[int], gates: int) -> Tensor:
    """Return ONNX's biases: those given, and none for the hidden states."""
    given = _ordered(op, bias, order, (1, gates))
    none = op.constant(np.zeros((1, 1), np.float32))
    rest = op.emit("Expand", none, numbers(op, 1, gates), type=_loose())
    return op.emit("Concat", given, rest, type=_loose(), axis=1)


def _cells(op: Operator, start: Tensor, forget: Tensor, new: Tensor, hidden: int) -> Tensor:
    """Return the cell state after each step: what it was, as far as kept, and what is new."""
    row = TensorType(FP32, (-1, hidden))
    body = Body(op)
    state, kept, added = (body.named(row) for _ in range(3))
    now = Tensor(body("Add", body("Mul", state.name, kept.name), added.name), row)
    given = Tensor(body("Identity", now.name), row)
    first = op.emit("Squeeze", start, numbers(op, 0), type=row)
    _, found = op.emit_several(
        "Scan", first, forget, new, types=[row, forget.type], num_scan_inputs=2,
        body=body.graph([state, kept, added], [now, given]),
    )  # fmt: skip
    return found
