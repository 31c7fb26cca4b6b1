"""Streams: what was put on one happens when it is synchronised, never before.

Nothing that was asked for asynchronously is done early, so whoever reads results without
synchronising reads poison, always; and what the caller must not touch meanwhile is compared with
what it was. Synchronising releases the GIL while it waits and computes, as the real one does.
"""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from acl import _memory
from acl._world import World, fail

STREAM_TIMEOUT = 507046


@dataclass
class Job:
    """One thing to do; ``holds`` are the handles that must stay as they are until it is done."""

    do: Callable[[], int]
    holds: list[int] = field(default_factory=list)
    model: int = 0
    left_s: float = 0.0


@dataclass
class Stream:
    """A queue of jobs."""

    jobs: deque[Job] = field(default_factory=deque)


def put(here: World, stream: int, job: Job) -> None:
    """Put a job on a stream; what it holds is in flight from now on."""
    thing = here.get(stream, "stream")
    with here.lock:
        for handle in [stream, *job.holds]:
            here.things[handle].in_flight += 1
        thing.holds.jobs.append(job)


def copy(here: World, dst: int, src: int, count: int, kind: int) -> Job:
    """Return the job of a copy, with the pages that it reads or writes watched."""
    sides = _memory.SIDES[kind]
    to_kind, to = _memory.region(here, dst, count, sides[0])
    from_kind, source = _memory.region(here, src, count, sides[1])
    for found in (to_kind, from_kind):
        if found == _memory.HOST:
            raise here.violation("an asynchronous copy of host memory that is not pinned")
    seen = zlib.crc32(source) if from_kind == _memory.PINNED else 0
    if to_kind == _memory.PINNED:
        to[:] = _memory.POISON

    def do() -> int:
        if from_kind == _memory.PINNED and zlib.crc32(source) != seen:
            raise here.violation("the source of a copy was changed while it was in flight")
        to[:] = source
        return 0

    holds = [_memory.owner(here, dst), _memory.owner(here, src)]
    return Job(do, holds)


def synchronize(here: World, stream: int, timeout_ms: int) -> int:
    """Do what is on a stream; the first failure empties it and is the answer."""
    jobs = here.get(stream, "stream").holds.jobs
    device = here.things[stream].device
    until = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1e3
    code = 0
    while jobs and not code:
        job = jobs[0]
        if _wait(here, job, until):
            return STREAM_TIMEOUT
        code = _lost(here, device) or job.do()
        _done(here, stream, jobs.popleft())
    abandon(here, stream)
    return code


def abandon(here: World, stream: int) -> None:
    """Leave undone what is on a stream, as after a fault: nothing of it is in flight any more."""
    jobs = here.get(stream, "stream").holds.jobs
    while jobs:
        _done(here, stream, jobs.popleft())


def _wait(here: World, job: Job, until: float | None) -> int:
    if until is not None and time.monotonic() + job.left_s > until:
        waits = max(until - time.monotonic(), 0.0)
        time.sleep(waits)
        job.left_s -= waits
        return fail(here, STREAM_TIMEOUT, "the stream was not done in time")
    # In steps, so that a device that is lost meanwhile is noticed as a real one would be.
    end = time.monotonic() + job.left_s
    while time.monotonic() < end and not here.lost(here.device()):
        time.sleep(min(0.01, max(end - time.monotonic(), 0)))
    job.left_s = 0.0
    return 0


def _lost(here: World, device: int) -> int:
    return fail(here, 507010, "the device is lost") if here.lost(device) else 0


def _done(here: World, stream: int, job: Job) -> None:
    with here.lock:
        for handle in [stream, *job.holds]:
            if handle in here.things:
                here.things[handle].in_flight -= 1


def running(here: World, model: int, but: int) -> bool:
    """Tell if a model is in flight on any stream but one."""
    return any(
        job.model == model
        for thing in list(here.things.values())
        if thing.kind == "stream" and thing.handle != but
        for job in list(thing.holds.jobs)
    )


def context_of(here: World, stream: int) -> Any:
    """Return the context that a stream was made in."""
    return here.get(stream, "stream").context
