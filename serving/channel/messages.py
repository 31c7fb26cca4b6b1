"""What master and worker say to each other: small, typed, one datagram each, never a pickle.

There are two kinds of link. The *control link* carries loading, health and farewell; a *run
link* (one for each slot of a worker) carries batches, or in a stage worker calls of functions. Hot
messages (``Run``, ``Done``, and their likes for stages) are packed structs, the others one line of
JSON, both behind a byte that names the kind. Texts are cut: a datagram must fit into a socket's
buffer; tensor bytes never travel here.

Python 3.9 syntax.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Dict, NamedTuple, Optional, Sequence, Tuple, Type, Union

PROTOCOL = 3
"""Raised whenever a message changes; a worker of another build is refused at hello."""

MAX_DATAGRAM = 160 * 1024
_MAX_TEXT = 4096


def cut(text: str) -> str:
    """Shorten a text that somebody else wrote so that it fits a datagram."""
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 12] + " … (cut)"


# -- control link: master to worker -----------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """Load a model and warm it. ``prove`` asks for the batch runs that confirm ``batch``.

    ``warmup`` are the samples that must run, as ``WarmUp`` writes them; ``sample`` is the path of
    a request that is known to be proper, empty if there is none. ``options`` are the backend's own.
    """

    KIND: ClassVar[int] = 1
    model: int
    name: str
    path: str
    backend: str
    batch: Dict[str, Any]
    static_outputs: bool
    max_batch_size: int
    threads: int
    prove: bool
    warmup: Sequence[Dict[str, Any]] = ()
    sample: str = ""
    options: Dict[str, str] = field(default_factory=dict)


def leniently(order: Load) -> Load:
    """Return the order for a model whose samples have run already.

    A worker that is started later must not fail for a sample whose file is gone or another by now.
    """
    return replace(order, warmup=[{**sample, "required": False} for sample in order.warmup])


@dataclass(frozen=True)
class Unload:
    """Forget a model; nothing runs it any more."""

    KIND: ClassVar[int] = 2
    model: int


@dataclass(frozen=True)
class Cancel:
    """Terminate a run, if it still runs: nobody waits for it any more."""

    KIND: ClassVar[int] = 3
    run: int


@dataclass(frozen=True)
class Ping:
    """Ask for a sign of life."""

    KIND: ClassVar[int] = 4
    serial: int


@dataclass(frozen=True)
class Stop:
    """Leave; nothing is in flight."""

    KIND: ClassVar[int] = 5


# -- control link: worker to master -----------------------------------------------------------


@dataclass(frozen=True)
class Hello:
    """A worker is up: which protocol it speaks and what it is made of."""

    KIND: ClassVar[int] = 16
    protocol: int
    pid: int
    versions: Dict[str, str]


@dataclass(frozen=True)
class Progress:
    """A load has come to its next phase (``warming``)."""

    KIND: ClassVar[int] = 21
    model: int
    phase: str


@dataclass(frozen=True)
class Loaded:
    """A model is loaded and warm. ``batch`` is the claim as the runs left it.

    ``gears`` are the only numbers of rows that a run of it may have, None where any will do.
    """

    KIND: ClassVar[int] = 17
    model: int
    signature: Dict[str, Any]
    batch: Dict[str, Any]
    load_ms: float
    warm_ms: float
    note: str = ""
    gears: Optional[Tuple[int, ...]] = None


@dataclass(frozen=True)
class LoadFailed:
    """A model could not be loaded, and why."""

    KIND: ClassVar[int] = 18
    model: int
    code: str
    message: str


@dataclass(frozen=True)
class Unloaded:
    """A model is gone from the worker."""

    KIND: ClassVar[int] = 19
    model: int


@dataclass(frozen=True)
class Pong:
    """A sign of life."""

    KIND: ClassVar[int] = 20
    serial: int


@dataclass(frozen=True)
class Registered:
    """A stage worker has imported its servable, which registers what has this digest."""

    KIND: ClassVar[int] = 22
    digest: str


@dataclass(frozen=True)
class DeviceGone:
    """The worker's device is beyond use: it ends, and what it ran may be run elsewhere."""

    KIND: ClassVar[int] = 23
    reason: str


# -- run link: master to worker ---------------------------------------------------------------


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


# -- run link: worker to master ---------------------------------------------------------------


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


Message = Union[
    Load, Unload, Cancel, Ping, Stop, Hello, Progress, Loaded, LoadFailed, Unloaded, Pong,
    Lend, Forget, Define, Grant, Deny, Run, Done, Failed, More,
    Registered, StageRun, StageDone, Call, CallDone, CallFailed, DeviceGone,
]  # fmt: skip

_JSON_KINDS: Dict[int, Type[Any]] = {
    c.KIND: c
    for c in (
        Load, Unload, Cancel, Ping, Stop, Hello, Progress, Loaded, LoadFailed, Unloaded, Pong,
        Lend, Forget, Define, Grant, Deny, Failed, More,
        Registered, Call, CallDone, CallFailed, DeviceGone,
    )
}  # fmt: skip

RUN_KIND = 36
DONE_KIND = 48
STAGE_RUN_KIND = 40
STAGE_DONE_KIND = 52
# kind u8, run u64, model u32, layout u32, input u32, output u32, first u32, rows u32, then ids
_RUN = struct.Struct("<BQIIIIII")
# kind u8, run u64, input/infer/output ns u64, segment u32, outputs i32 (-1: in their rows)
_DONE = struct.Struct("<BQQQQIi")
# dtype u8, rank u8, offset u64, nbytes u64, then rank dims of i64
_WRITTEN = struct.Struct("<BBQQ")

# kind u8, run u64, input u32, output u32, bytes of the function's name u32, then name and ids
_STAGE_RUN = struct.Struct("<BQIII")
# kind u8, run u64, segment u32, bytes u64, busy ns u64
_STAGE_DONE = struct.Struct("<BQIQQ")


def encode(message: Message) -> bytes:
    """Turn a message into a datagram; raises ValueError when it would not fit."""
    if isinstance(message, StageRun):
        name = message.function.encode()
        head = _STAGE_RUN.pack(STAGE_RUN_KIND, *message[:3], len(name))
        return head + name + cut(message.ids).encode()
    if isinstance(message, StageDone):
        return _STAGE_DONE.pack(STAGE_DONE_KIND, *message)
    if isinstance(message, Run):
        head = _RUN.pack(RUN_KIND, *message[:7])
        return head + cut(message.ids).encode() if message.ids else head
    if isinstance(message, Done):
        data = _encode_done(message)
    else:
        data = bytes((message.KIND,)) + json.dumps(asdict(message)).encode()
    if len(data) > MAX_DATAGRAM:
        raise ValueError(f"a {type(message).__name__} of {len(data)} bytes does not fit a datagram")
    return data


def decode(data: bytes) -> Message:
    """Turn a datagram back into a message; raises ValueError for anything else."""
    try:
        return _decode(data)
    except (struct.error, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{len(data)} bytes that are no message: {error}") from error


def _decode(data: bytes) -> Message:
    kind = data[0]
    if kind == RUN_KIND:
        _, run, model, layout, input, output, first, rows = _RUN.unpack_from(data)
        ids = data[_RUN.size :].decode() if len(data) > _RUN.size else ""
        return Run(run, model, layout, input, output, first, rows, ids)
    if kind == DONE_KIND:
        return _decode_done(data)
    if kind == STAGE_RUN_KIND:
        _, run, input, output, length = _STAGE_RUN.unpack_from(data)
        end = _STAGE_RUN.size + length
        return StageRun(
            run, input, output, data[_STAGE_RUN.size : end].decode(), data[end:].decode()
        )
    if kind == STAGE_DONE_KIND:
        return StageDone(*_STAGE_DONE.unpack_from(data)[1:])
    cls = _JSON_KINDS.get(kind)
    if cls is None:
        raise ValueError(f"unknown message kind {kind}")
    fields = json.loads(data[1:])
    if cls is Define:
        fields["drop"] = tuple(fields["drop"])
    elif cls is Load:
        fields["warmup"] = tuple(fields.get("warmup", ()))
    elif cls is Loaded and fields.get("gears") is not None:
        fields["gears"] = tuple(fields["gears"])
    message: Message = cls(**fields)
    return message


def _encode_done(m: Done) -> bytes:
    count = -1 if m.outputs is None else len(m.outputs)
    head = _DONE.pack(
        DONE_KIND, m.run, m.input_ns, m.infer_ns, m.output_ns, m.segment, count
    )  # fmt: skip
    if not m.outputs:
        return head
    parts = [head]
    for w in m.outputs:
        parts.append(_WRITTEN.pack(w.dtype, len(w.shape), w.offset, w.nbytes))
        parts.append(struct.pack(f"<{len(w.shape)}q", *w.shape))
    return b"".join(parts)


def _decode_done(data: bytes) -> Done:
    _, run, input_ns, infer_ns, output_ns, segment, count = _DONE.unpack_from(data)
    if count < 0:
        return Done(run, input_ns, infer_ns, output_ns)
    at = _DONE.size
    outputs = []
    for _ in range(count):
        dtype, rank, offset, nbytes = _WRITTEN.unpack_from(data, at)
        at += _WRITTEN.size
        shape = struct.unpack_from(f"<{rank}q", data, at)
        at += 8 * rank
        outputs.append(Written(dtype, shape, offset, nbytes))
    return Done(run, input_ns, infer_ns, output_ns, tuple(outputs), segment)
