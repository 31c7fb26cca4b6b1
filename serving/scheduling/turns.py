"""Whose turn it is: the lines in which somebody waits, the one that has waited longest first.

With many servables most lines stand still while one has its turn; what a run costs must not grow
with their number.
"""

from __future__ import annotations

import heapq
import itertools
from typing import Generic, Protocol, TypeVar

_STALE = 64


class Room(Protocol):
    """What is to be known of a line."""

    model: int
    waiting: int

    def oldest(self) -> float | None:
        """Return when the first came who may run, None if nobody may."""
        ...


_Line = TypeVar("_Line", bound=Room)


class Turns(Generic[_Line]):
    """``lines`` are those in which somebody waits, or did until a moment ago, by model.

    A line stands where its head was when it was last looked at: heads leave, and others take their
    places, without anybody being told. That is made good when its turn seems to have come.
    """

    def __init__(self) -> None:
        self.lines: dict[int, _Line] = {}
        self._heap: list[tuple[float, int, _Line]] = []
        self._entries: dict[int, tuple[float, int, _Line]] = {}
        self._held: set[int] = set()
        self._passed: list[tuple[float, int, _Line]] = []
        self._serials = itertools.count()

    def add(self, line: _Line) -> None:
        """Somebody waits in a line; since when is looked up when it is asked for."""
        if line.model in self.lines:
            return
        if len(self._heap) > _STALE + 2 * len(self._entries):
            self._heap = list(self._entries.values())
            heapq.heapify(self._heap)
        self.lines[line.model] = line
        self._push(0.0, line)

    def remove(self, line: _Line) -> None:
        """Nobody waits in a line any more."""
        if self.lines.pop(line.model, None) is None:
            return
        entry = self._entries.pop(line.model)
        if self._heap and self._heap[0] is entry:
            heapq.heappop(self._heap)

    def first(self) -> _Line | None:
        """Return the line whose head has waited longest, of those that are not set aside."""
        while self._heap:
            entry = self._heap[0]
            since, _, line = entry
            if self._entries.get(line.model) is not entry:
                heapq.heappop(self._heap)
                continue
            if not line.waiting:
                self.remove(line)
                continue
            oldest = line.oldest()
            if oldest is None or line.model in self._held:
                self._passed.append(heapq.heappop(self._heap))
            elif oldest > since:
                heapq.heappop(self._heap)
                self._push(oldest, line)
            else:
                return line
        return None

    def set_aside(self, line: _Line) -> None:
        """Pass over a line until ``restore``."""
        self._held.add(line.model)

    def restore(self) -> None:
        """Let those that were passed over have their turns again."""
        for entry in self._passed:
            heapq.heappush(self._heap, entry)
        self._passed.clear()
        self._held.clear()

    def _push(self, since: float, line: _Line) -> None:
        entry = self._entries[line.model] = (since, next(self._serials), line)
        heapq.heappush(self._heap, entry)
