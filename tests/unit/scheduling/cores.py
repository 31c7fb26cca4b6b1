"""Processes on shared cores in simulated time: who computes when, by priority."""

from __future__ import annotations

import collections
import heapq
import itertools
from collections.abc import Callable, Iterable

Act = Callable[[], None]


class Process:
    """Does one piece of work after the other, each of some seconds, and acts when it is done."""

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.work: collections.deque[tuple[float, Act]] = collections.deque()
        self.served_s = 0.0

    def later(self, seconds: float, act: Act) -> None:
        """Do something behind all that there is to do."""
        self.work.append((seconds, act))

    def next(self, pieces: Iterable[tuple[float, Act]]) -> None:
        """Do something before all else, in this order; for use while it acts."""
        self.work.extendleft(reversed(list(pieces)))


class Cores:
    """Time, timers and processes. ``number`` of cores None: one for each process.

    Where more want to compute than there are cores, those of higher priority do; among equals the
    one that has had least.
    """

    def __init__(self, number: int | None = None) -> None:
        self.now = 0.0
        self._number = number
        self._processes: list[Process] = []
        self._timers: list[tuple[float, int, Act]] = []
        self._serial = itertools.count()

    def process(self, priority: int = 0) -> Process:
        """Start a process."""
        found = Process(priority)
        self._processes.append(found)
        return found

    def at(self, when: float, act: Act) -> None:
        """Act at a time."""
        heapq.heappush(self._timers, (when, next(self._serial), act))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self.now < until:
            running = self._running()
            if not running and not self._timers:
                return
            step = min([process.work[0][0] for process in running], default=float("inf"))
            if self._timers and self._timers[0][0] <= self.now + step:
                when, _, act = heapq.heappop(self._timers)
                self._pass(running, max(0.0, when - self.now))
                act()
                continue
            first = min(running, key=lambda process: process.work[0][0])
            self._pass(running, step)
            _, act = first.work.popleft()
            act()

    def _running(self) -> list[Process]:
        ready = [process for process in self._processes if process.work]
        if self._number is not None and len(ready) > self._number:
            ready.sort(key=lambda process: (-process.priority, process.served_s))
            del ready[self._number :]
        return ready

    def _pass(self, running: list[Process], seconds: float) -> None:
        self.now += seconds
        for process in running:
            left, act = process.work[0]
            process.work[0] = (left - seconds, act)
            process.served_s += seconds
