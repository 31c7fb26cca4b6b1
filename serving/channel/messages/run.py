"""The run link of a worker: segments lent, batches run, what came of them. Python 3.9 syntax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Dict, NamedTuple, Optional, Tuple

# -- master to worker --------------------------------------------------------------------------


@dataclass(frozen=True)
class Lend:
    """A segment, whose descriptor travels with this message."""

    KIND: ClassVar[int] = 32
    segment: int
    size: int
    writable: bool


@dataclass(frozen=True)
class Forget:
    """Unmap a segment: the master has taken it back for good."""

    KIND: ClassVar[int] = 33
    segment: int


@dataclass(frozen=True)
class ForgetFiles:
    """Let go of all files of clients: some are not theirs any more that they have named."""

    KIND: ClassVar[int] = 42


@dataclass(frozen=True)
class Define:
    """A layout that runs will refer to by its number; ``drop`` lists ones no longer used."""

    KIND: ClassVar[int] = 34
    layout: Dict[str, Any]
    drop: Tuple[int, ...] = ()


@dataclass(frozen=True)
class Grant:
    """The answer to ``More``: this segment (already lent) takes the run's outputs."""

    KIND: ClassVar[int] = 37
    run: int
    segment: int


@dataclass(frozen=True)
class Deny:
    """No more output memory for this run: it fails with this error."""

    KIND: ClassVar[int] = 35
    run: int
    code: str
    message: str


class Copy(NamedTuple):
    """``nbytes`` at ``at`` of the run's n-th file, and at ``offset`` of its segment.

    They are of input or output number ``tensor``.
    """

    file: int
    tensor: int
    at: int
    offset: int
    nbytes: int


class Afar(NamedTuple):
    """What a run reads before it, and writes after it, in files of clients.

    The files' descriptors travel with the run. What is read goes into the input segment; the
    first ``asked`` rows are for requests, and the others are copies of the first. What is written
    comes from the output segment, and is not written where outputs did not go to their rows.
    """

    asked: int
    reads: Tuple[Copy, ...]
    writes: Tuple[Copy, ...]


class Run(NamedTuple):
    """Run rows ``first .. first+rows`` of a buffer.

    ``output`` is the segment for the outputs (0: none yet). With a layout whose outputs are
    known they go to their rows; otherwise they are packed one behind the other.
    ``ids`` are the request ids that clients gave, for the log.
    """

    run: int
    model: int
    layout: int
    input: int
    output: int
    first: int
    rows: int
    ids: str = ""
    afar: Optional[Afar] = None


# -- worker to master --------------------------------------------------------------------------


class Written(NamedTuple):
    """Where one output of unknown size was put: dtype code, engine shape, place."""

    dtype: int
    shape: Tuple[int, ...]
    offset: int
    nbytes: int


class Done(NamedTuple):
    """A run is finished. ``outputs`` is None when they are in their rows."""

    run: int
    input_ns: int
    infer_ns: int
    output_ns: int
    outputs: Optional[Tuple[Written, ...]] = None
    segment: int = 0


@dataclass(frozen=True)
class Failed:
    """A run failed; the worker is well."""

    KIND: ClassVar[int] = 49
    run: int
    code: str
    message: str


@dataclass(frozen=True)
class More:
    """The outputs of a run need a segment of at least ``nbytes``; the worker waits for it."""

    KIND: ClassVar[int] = 50
    run: int
    nbytes: int
