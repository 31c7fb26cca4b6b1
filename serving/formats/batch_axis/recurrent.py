"""LSTM, GRU and RNN: axis 0 of X is time, axis 1 the batch, unless ``layout`` says otherwise."""

from __future__ import annotations

from serving.formats.batch_axis.size import Size
from serving.formats.batch_axis.step import Step, rule
from serving.formats.batch_axis.value import Draft

_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
_PEEPHOLES = 7


@rule("LSTM", "GRU", "RNN")
def recurrent(step: Step) -> list[Draft]:
    """Y, Y_h and, for LSTM, Y_c; lengths and first states run parallel to the batch."""
    batch_first = bool(step.attribute("layout", 0))
    rows = step.rows(0)
    batch = 0 if batch_first else 1
    if step.rank(0) != 3 or rows.axis != batch:
        step.refuse(
            f"takes axis {batch} of X for the batch and axis {1 - batch} for time, but the batch "
            f"is in axis {rows.axis}"
        )
    step.require_free(1, 2, 3, _PEEPHOLES)
    _check_parallel(step, 4, 0)
    for state in _STATES[step.node.op_type]:
        _check_parallel(step, state, batch)
    hidden, directions = step.dims(2)[-1], step.dims(2)[0]
    time = step.dims(0)[1 - batch]
    if batch_first:
        every = Draft(rows.at(0), (rows.size, time, directions, hidden))
        last = Draft(rows.at(0), (rows.size, directions, hidden))
    else:
        every = Draft(rows.at(2), (time, directions, rows.size, hidden))
        last = Draft(rows.at(1), (directions, rows.size, hidden))
    return [every, last, last] if step.node.op_type == "LSTM" else [every, last]


def _check_parallel(step: Step, position: int, axis: int) -> None:
    if not step.has(position):
        return
    rows = step.value(position).rows
    if rows is None:
        length: Size = step.dims(position)[axis]
        step.refuse(
            f"has {length} states or lengths of its own (input {position}), where every row "
            "needs one"
        )
    if rows.axis != axis or not rows.alike(step.rows(0)):
        step.refuse(f"does not find the batch in axis {axis} of its input {position}")
