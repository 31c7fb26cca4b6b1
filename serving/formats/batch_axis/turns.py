"""Scan and Loop: a graph run again and again, as often as has nothing to do with the batch.

What is carried from turn to turn (the state) must leave a turn as it came into it: the rows in the
same place, the axes as long. Then one walk through the graph inside stands for all turns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Sequence

import onnx

from serving.formats.batch_axis.size import Size
from serving.formats.batch_axis.step import Refusal, Step
from serving.formats.batch_axis.value import Draft, Place, Value

_OLDEST_OPSET = 9
"""Before, Scan had a batch axis of its own."""


@dataclass(frozen=True)
class Turns:
    """The graph inside, the values that its inputs have in a turn, and how results are stacked.

    ``head`` are those before the states, ``entries`` those behind them; ``decides`` is set where
    the first output says whether there is another turn.
    """

    body: onnx.GraphProto
    states: tuple[Value, ...]
    entries: tuple[Value, ...] = ()
    turns: Size | None = None
    axes: tuple[int, ...] = ()
    head: tuple[Value, ...] = ()
    decides: bool = False

    @property
    def first(self) -> dict[str, Value]:
        """What is known inside from the start of a turn."""
        names = [i.name for i in self.body.input]
        return dict(zip(names, self.head + self.states + self.entries, strict=True))

    def results(self, made: Sequence[Value]) -> list[Value | Draft]:
        """Return the node's outputs from those of a turn; raises ``Refusal``."""
        if self.decides:
            if not made[0].free:
                raise Refusal("whether a Loop has another turn depends on the batch")
            made = made[1:]
        kept, stacked = made[: len(self.states)], made[len(self.states) :]
        names = list(self.first)[len(self.head) :]
        for name, before, after in zip(names, self.states, kept, strict=False):
            alike = (before.rows, before.dims, before.place) == (
                after.rows, after.dims, after.place
            )  # fmt: skip
            if not alike or after.sequence or after.counts:
                raise Refusal(f"what is carried on as '{name}' is laid out anew in every turn")
        axes = self.axes or (0,) * len(stacked)
        return [*self.states] + [
            self._stacked(value, axis) for value, axis in zip(stacked, axes, strict=True)
        ]

    def _stacked(self, value: Value, axis: int) -> Value | Draft:
        """Put the turns' results side by side along a new axis."""
        if value.counts or value.sequence:
            raise Refusal("a Scan or Loop collects what depends on the size of the batch")
        if value.dims is None:
            return Value(None)
        place = axis + len(value.dims) + 1 if axis < 0 else axis
        dims = (*value.dims[:place], self.turns, *value.dims[place:])
        if value.rows is None:
            return Value(None if self.turns is None else _whole(dims))
        rows = value.rows.at(value.rows.axis + (place <= value.rows.axis))
        return Draft(rows, dims, place=value.place)


def _whole(dims: Sequence[Size | None]) -> tuple[Size, ...] | None:
    known = tuple(d for d in dims if d is not None)
    return known if len(known) == len(dims) else None


def turns_of(step: Step) -> Turns:
    """Read a Scan or a Loop; refuses one whose turns depend on the batch."""
    return _loop(step) if step.node.op_type == "Loop" else _scan(step)


def _loop(step: Step) -> Turns:
    body = step.attribute("body")
    step.require_free(0, 1)
    if len(body.input) != max(len(step.inputs), 2):
        step.refuse("has a graph inside that does not take its inputs")
    states = tuple(_state(step, i) for i in range(2, len(step.inputs)))
    return Turns(body, states, head=(Value(()), Value(())), decides=True)


def _scan(step: Step) -> Turns:
    """Read a Scan node; refuses one that goes through the batch row by row."""
    if step.opset < _OLDEST_OPSET:
        step.refuse("is of an opset in which it has a batch of its own, which is not followed")
    body = step.attribute("body")
    count = step.attribute("num_scan_inputs", 0)
    states = len(step.inputs) - count
    axes = step.attribute("scan_input_axes") or [0] * count
    if states < 0 or len(body.input) != len(step.inputs) or len(axes) != count:
        step.refuse("has a graph inside that does not take its inputs")
    entries: list[Value] = []
    turns: Size | None = None
    for i, axis in enumerate(axes, states):
        entry, length = _entry(step, i, axis)
        entries.append(entry)
        turns = turns or length
    return Turns(
        body,
        tuple(_state(step, i) for i in range(states)),
        tuple(entries),
        turns,
        tuple(step.attribute("scan_output_axes") or ()),
    )


def _state(step: Step, position: int) -> Value:
    value = step.value(position)
    if value.counts or value.place is not Place.NONE:
        step.refuse("starts with numbers that depend on the size of the batch")
    return replace(value, known=None, reach=None)


def _entry(step: Step, position: int, axis: int) -> tuple[Value, Size | None]:
    """Return what one turn gets of an input, and the number of turns."""
    value = step.value(position)
    if value.counts or value.place is not Place.NONE:
        step.refuse("goes through numbers that depend on the size of the batch")
    if value.dims is None:
        return Value(None), None
    axis = step.axis(axis, len(value.dims))
    dims = value.dims[:axis] + value.dims[axis + 1 :]
    if value.rows is None:
        return Value(dims), value.dims[axis]
    if value.rows.axis == axis:
        step.refuse(f"goes through axis {axis}, the batch, row by row")
    rows = value.rows.at(value.rows.axis - (axis < value.rows.axis))
    return Value(dims, rows), value.dims[axis]
