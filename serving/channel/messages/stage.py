"""The run link of a stage worker: functions called, and models that they ask. Python 3.9 syntax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

# -- master to worker --------------------------------------------------------------------------


class StageRun(NamedTuple):
    """Run a function of the servable, or a built-in one, on the instances in ``input``, a packet.

    ``output`` (0: none yet) takes the outcomes, as a packet too, and before that what the function
    asks of models. ``ids`` are the request ids that clients gave, for the log.
    """

    run: int
    input: int
    output: int
    function: str
    ids: str = ""


@dataclass(frozen=True)
class CallDone:
    """The answer to ``Call``: a packet in ``segment``, which from now on is the run's output."""

    KIND: ClassVar[int] = 38
    run: int
    segment: int


@dataclass(frozen=True)
class CallFailed:
    """The answer to ``Call`` where the model, or what keeps it from running, has an error."""

    KIND: ClassVar[int] = 39
    run: int
    code: str
    message: str


# -- worker to master --------------------------------------------------------------------------


class StageDone(NamedTuple):
    """A function has run; what became of its instances is a packet in ``segment``."""

    run: int
    segment: int
    nbytes: int
    busy_ns: int


@dataclass(frozen=True)
class Call:
    """A function asks for a model; the instances are a packet in ``segment``, the run's output.

    The worker waits for ``CallDone`` or ``CallFailed``.
    """

    KIND: ClassVar[int] = 51
    run: int
    model: str
    subgraph: int
    segment: int
