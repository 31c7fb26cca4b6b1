"""Looks out for the next message for a moment before its receiver falls asleep over it.

Who sends to a process that sleeps on another core pays for waking it, and the message waits until
that core has come round: on virtual machines some 15 µs each, more than all that is done about a
small run. A process that looks again and again instead has the message at once, and gives its core
away between two looks to whoever wants it. Where messages take longer to come than is allowed, it
is tried less and less often.

Python 3.9 syntax.
"""

from __future__ import annotations

import os
from time import perf_counter_ns
from typing import Callable

_MOST_SKIPPED = 64


class BusyPoll:
    """One receiver's. At most ``limit_us`` are spent on a wait; of waits in vain ever fewer."""

    __slots__ = ("_limit_ns", "_skip", "_skipped")

    def __init__(self, limit_us: int) -> None:
        self._limit_ns = limit_us * 1000
        self._skip = 1  # so many waits after the next one in vain
        self._skipped = 0

    def look_out(self, poll: Callable[[int], object]) -> bool:
        """Call ``poll(0)`` until it returns something true; return False if it was given up."""
        if self._skipped:
            self._skipped -= 1
            return False
        end = perf_counter_ns() + self._limit_ns
        while not poll(0):
            os.sched_yield()
            if perf_counter_ns() > end:
                self._skipped = self._skip
                self._skip = min(2 * self._skip, _MOST_SKIPPED)
                return False
        self._skip = 1
        return True
