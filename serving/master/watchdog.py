"""Notices processes that hang: those that give no sign of life, and runs beyond their limit.

One timer looks at all of them. It knows nothing of supervisors or schedulers: any fleet can have
one that can list its processes and say how long a run may take.

Time is this process's own: while it was stopped itself (SIGSTOP, a frozen container, a suspended
machine) nobody could answer it, so a long gap between two looks counts as a short one.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from serving.scheduling.suspicion import Cause, Loss

_log = logging.getLogger("serving.watchdog")

T = TypeVar("T")

TICK_S = 0.25
_LONGEST_STEP_S = 2 * TICK_S
_PINGS_IN_SILENCE = 4
_LEAST_GRACE_S, _MOST_GRACE_S = 0.5, 5.0


class RunningSlot(Protocol):
    """Where runs happen, one at a time; ``busy`` is the number of the run, 0 for none."""

    busy: int

    def cancel(self, run: int) -> None:
        """Ask for the run to end early."""
        ...


class Watched(Protocol):
    """A process that is watched. ``awaited`` is set from a ping until something is heard of it."""

    awaited: bool
    lost: bool

    @property
    def name(self) -> str:
        """Its name in logs."""
        ...

    @property
    def pid(self) -> int:
        """Its process."""
        ...

    @property
    def loading(self) -> bool:
        """Whether it is at a load, in which an engine may keep it from answering."""
        ...

    @property
    def slots(self) -> Sequence[RunningSlot]:
        """Where it runs."""
        ...

    def ping(self) -> None:
        """Ask for a sign of life."""
        ...

    def kill(self, loss: Loss) -> None:
        """End it, with the reason."""
        ...


class Runs(Protocol):
    """Who knows the runs."""

    def limit_s(self, run: int) -> float:
        """Return how long a run may take, 0 for no limit."""
        ...

    def overdue(self, run: int) -> None:
        """A run has taken longer than that and is being ended."""
        ...


class Act(enum.Enum):
    """What to do now about a process or a run."""

    NOTHING = "nothing"
    PING = "ask for a sign of life"
    CANCEL = "ask for the run to end"
    KILL = "end the process"


def about_silence(asked_s: float, *, awaited: bool, silence_s: float) -> Act:
    """Decide by how long ago a process was asked last, and whether its answer is still awaited."""
    if awaited:
        return Act.KILL if asked_s >= silence_s else Act.NOTHING
    return Act.PING if asked_s >= silence_s / _PINGS_IN_SILENCE else Act.NOTHING


def about_run(age_s: float, limit_s: float, *, cancelled: bool) -> Act:
    """Decide by a run's age; an engine has a while to heed the request to end."""
    if not limit_s or age_s < limit_s:
        return Act.NOTHING
    if not cancelled:
        return Act.CANCEL
    grace_s = min(max(limit_s / 4, _LEAST_GRACE_S), _MOST_GRACE_S)
    return Act.KILL if age_s >= limit_s + grace_s else Act.NOTHING


class OwnTime:
    """Seconds that this process has lived through; a longer step counts as ``longest_s``."""

    def __init__(self, clock: float, longest_s: float = _LONGEST_STEP_S) -> None:
        self._clock = clock
        self._longest_s = longest_s
        self.now = 0.0

    def advance(self, clock: float) -> float:
        """Go on to what the monotonic clock shows; returns the own time."""
        self.now += min(clock - self._clock, self._longest_s)
        self._clock = clock
        return self.now


async def within(answer: asyncio.Future[T], timeout_s: float) -> T:
    """Wait for an answer; raises TimeoutError when so much own time has passed."""
    own = OwnTime(time.monotonic())
    while not answer.done():
        if own.advance(time.monotonic()) >= timeout_s:
            raise TimeoutError
        await asyncio.wait({answer}, timeout=min(_LONGEST_STEP_S, timeout_s - own.now))
    return answer.result()


@dataclass
class _Run:
    """The run in a slot, since when (own time), and whether it was asked to end."""

    number: int
    since: float
    cancelled: bool = False


class Watchdog:
    """Owns the timer. ``silence_s`` 0 asks nobody for signs of life. Event loop only."""

    def __init__(
        self, processes: Callable[[], Iterable[Watched]], runs: Runs, silence_s: float
    ) -> None:
        self._processes = processes
        self._runs = runs
        self._silence_s = silence_s
        self._asked: dict[Watched, float] = {}
        self._running: dict[RunningSlot, _Run] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look."""
        self._time = OwnTime(time.monotonic())
        self._next()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _next(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._next()
        self.look(self._time.advance(time.monotonic()))

    def look(self, now: float) -> None:
        """Look at all processes and runs once; ``now`` is own time."""
        processes = [process for process in self._processes() if not process.lost]
        asked, self._asked = self._asked, {}
        running, self._running = self._running, {}
        for process in processes:
            if self._silence_s:
                self._asked[process] = self._check_silence(process, asked.get(process, now), now)
            for slot in process.slots:
                if slot.busy and not process.lost:
                    run = running.get(slot)
                    if run is None or run.number != slot.busy:
                        run = _Run(slot.busy, now)
                    self._running[slot] = run
                    self._check_run(process, slot, run, now)

    def _check_silence(self, process: Watched, asked: float, now: float) -> float:
        """Return when the process was asked last."""
        act = about_silence(now - asked, awaited=process.awaited, silence_s=self._silence_s)
        if act is Act.PING:
            process.ping()
            return now
        if act is Act.KILL and (not process.loading or is_stopped(process.pid)):
            self._kill_silent(process)
        return asked

    def _check_run(self, process: Watched, slot: RunningSlot, run: _Run, now: float) -> None:
        limit_s = self._runs.limit_s(run.number)
        act = about_run(now - run.since, limit_s, cancelled=run.cancelled)
        if act is Act.NOTHING:
            return
        if is_stopped(process.pid):
            self._kill_silent(process)  # the run is not to blame
        elif act is Act.CANCEL:
            _log.warning("a run takes longer than %g s; ending it", limit_s, extra=_who(process))
            run.cancelled = True
            self._runs.overdue(run.number)
            slot.cancel(run.number)
        else:
            _log.error("a run goes on beyond its limit; ending the worker", extra=_who(process))
            process.kill(Loss(Cause.HUNG, f"a run took longer than {limit_s:g} s"))

    def _kill_silent(self, process: Watched) -> None:
        _log.error("no sign of life; ending the worker", extra=_who(process))
        process.kill(Loss(Cause.ENDED, "it gave no sign of life"))


def is_stopped(pid: int) -> bool:
    """Return whether a process is held by a signal such as SIGSTOP."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] == "T"


def _who(process: Watched) -> dict[str, object]:
    return {"worker": process.name, "pid": process.pid}
