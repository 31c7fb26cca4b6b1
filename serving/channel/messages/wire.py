"""Messages as datagrams: packed structs for the hot ones, JSON for the others. Python 3.9 syntax.

A byte in front names the kind. Nothing here is a pickle.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from typing import Any, Dict, Tuple, Type, Union

from serving.channel.messages.control import (
    Cancel,
    DeviceGone,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    Ping,
    Pong,
    Progress,
    Registered,
    Stop,
    Unload,
    Unloaded,
)
from serving.channel.messages.run import (
    Afar,
    Copy,
    Define,
    Deny,
    Done,
    Failed,
    Forget,
    ForgetFiles,
    Grant,
    Lend,
    More,
    Run,
    Written,
)
from serving.channel.messages.stage import Call, CallDone, CallFailed, StageDone, StageRun

PROTOCOL = 4
"""Raised whenever a message changes; a worker of another build is refused at hello."""

MAX_DATAGRAM = 160 * 1024
_MAX_TEXT = 4096

Message = Union[
    Load, Unload, Cancel, Ping, Stop, Hello, Progress, Loaded, LoadFailed, Unloaded, Pong,
    Lend, Forget, ForgetFiles, Define, Grant, Deny, Run, Done, Failed, More,
    Registered, StageRun, StageDone, Call, CallDone, CallFailed, DeviceGone,
]  # fmt: skip

_JSON_KINDS: Dict[int, Type[Any]] = {
    c.KIND: c
    for c in (
        Load, Unload, Cancel, Ping, Stop, Hello, Progress, Loaded, LoadFailed, Unloaded, Pong,
        Lend, Forget, ForgetFiles, Define, Grant, Deny, Failed, More,
        Registered, Call, CallDone, CallFailed, DeviceGone,
    )
}  # fmt: skip

RUN_KIND = 36
STAGE_RUN_KIND = 40
AFAR_RUN_KIND = 41
DONE_KIND = 48
STAGE_DONE_KIND = 52
# kind u8, run u64, model u32, layout u32, input u32, output u32, first u32, rows u32, then ids
_RUN = struct.Struct("<BQIIIIII")
# Of a run with files, between those and the ids: asked u32, reads u16, writes u16, then these
_AFAR = struct.Struct("<IHH")
# file u16, tensor u16, at u64, offset u64, nbytes u64
_COPY = struct.Struct("<HHQQQ")
MOST_COPIES = (MAX_DATAGRAM - _RUN.size - _AFAR.size - 4 * _MAX_TEXT) // _COPY.size
"""Of one run: more would not fit its datagram."""

# kind u8, run u64, input/infer/output ns u64, segment u32, outputs i32 (-1: in their rows)
_DONE = struct.Struct("<BQQQQIi")
# dtype u8, rank u8, offset u64, nbytes u64, then rank dims of i64
_WRITTEN = struct.Struct("<BBQQ")

# kind u8, run u64, input u32, output u32, bytes of the function's name u32, then name and ids
_STAGE_RUN = struct.Struct("<BQIII")
# kind u8, run u64, segment u32, bytes u64, busy ns u64
_STAGE_DONE = struct.Struct("<BQIQQ")


def cut(text: str) -> str:
    """Shorten a text that somebody else wrote so that it fits a datagram."""
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 12] + " … (cut)"


def encode(message: Message) -> bytes:
    """Turn a message into a datagram; raises ValueError when it would not fit."""
    if isinstance(message, Run) and message.afar is None:
        head = _RUN.pack(RUN_KIND, *message[:7])
        return head + cut(message.ids).encode() if message.ids else head
    if isinstance(message, Done) and message.outputs is None:
        return _DONE.pack(DONE_KIND, *message[:4], 0, -1)
    if isinstance(message, StageRun):
        name = message.function.encode()
        head = _STAGE_RUN.pack(STAGE_RUN_KIND, *message[:3], len(name))
        return head + name + cut(message.ids).encode()
    if isinstance(message, StageDone):
        return _STAGE_DONE.pack(STAGE_DONE_KIND, *message)
    if isinstance(message, Run):
        data = _encode_afar_run(message)
    elif isinstance(message, Done):
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
    if kind == AFAR_RUN_KIND:
        return _decode_afar_run(data)
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


def _encode_afar_run(run: Run) -> bytes:
    afar = run.afar
    assert afar is not None
    head = _RUN.pack(AFAR_RUN_KIND, *run[:7])
    counts = _AFAR.pack(afar.asked, len(afar.reads), len(afar.writes))
    copies = [_COPY.pack(*copy) for copy in (*afar.reads, *afar.writes)]
    return b"".join([head, counts, *copies, cut(run.ids).encode()])


def _decode_afar_run(data: bytes) -> Run:
    _, run, model, layout, input, output, first, rows = _RUN.unpack_from(data)
    asked, reads, writes = _AFAR.unpack_from(data, _RUN.size)
    at = _RUN.size + _AFAR.size
    end = at + (reads + writes) * _COPY.size
    copies = tuple([Copy(*found) for found in _COPY.iter_unpack(data[at:end])])
    if len(copies) != reads + writes:
        raise ValueError("a run is shorter than it says")
    afar = Afar(asked, copies[:reads], copies[reads:])
    return Run(run, model, layout, input, output, first, rows, data[end:].decode(), afar)


def _encode_done(m: Done) -> bytes:
    outputs = m.outputs or ()
    parts = [_DONE.pack(DONE_KIND, *m[:4], m.segment, len(outputs))]
    for w in outputs:
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
        shape: Tuple[int, ...] = struct.unpack_from(f"<{rank}q", data, at)
        at += 8 * rank
        outputs.append(Written(dtype, shape, offset, nbytes))
    return Done(run, input_ns, infer_ns, output_ns, tuple(outputs), segment)
