"""Ends the calls whose time is up: all of a server by one timer, since each has one for itself."""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

TICK_S = 0.02
_COARSE_TICKS = 50
_COARSE_FROM_S = 10.0
"""Deadlines farther away than this are kept to the second, so that they take few slots."""

HORIZON_S = 60.0
"""Those beyond this are looked at again by then: their slots would stand until they pass."""

_log = logging.getLogger("serving.frontends.grpc")


class Timed(Protocol):
    """What has a deadline, in monotonic seconds."""

    deadline: float | None
    slot: int


T = TypeVar("T", bound=Timed)


class Deadlines(Generic[T]):
    """Calls ``expire`` for each thing once its deadline has passed, up to a tick late."""

    def __init__(self, expire: Callable[[T], None]) -> None:
        self._expire = expire
        self._slots: dict[int, set[T]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, timed: T) -> None:
        """Begin to watch a thing that has a deadline."""
        assert timed.deadline is not None
        now = time.monotonic()
        slot = int(min(timed.deadline, now + HORIZON_S) / TICK_S) + 1
        if timed.deadline - now > _COARSE_FROM_S:
            slot = -(-slot // _COARSE_TICKS) * _COARSE_TICKS
        found = self._slots.get(slot)
        if found is None:
            found = self._slots[slot] = set()
            heapq.heappush(self._order, slot)
        found.add(timed)
        timed.slot = slot
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def discard(self, timed: T) -> None:
        """Watch a thing no more."""
        found = self._slots.get(timed.slot)
        if found is not None:
            found.discard(timed)

    def close(self) -> None:
        """Watch nothing any more."""
        self._slots.clear()
        self._order.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        now = time.monotonic()
        due: list[T] = []
        while self._order and self._order[0] <= int(now / TICK_S):
            due += self._slots.pop(heapq.heappop(self._order))
        self._timer = None
        if any(self._slots.values()):
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        for timed in due:
            if timed.deadline is not None and timed.deadline > now:
                self.add(timed)
                continue
            try:
                self._expire(timed)
            except Exception:  # the others have a right to their deadlines
                _log.exception("a gRPC call past its deadline could not be ended")
