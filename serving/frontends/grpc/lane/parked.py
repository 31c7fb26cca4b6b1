"""Calls that stand back while their client does not read: whole, but not begun."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from serving.frontends.grpc.lane.outgoing import BACKLOG_BYTES, Outgoing
from serving.frontends.grpc.lane.stream import Stream


class Parked:
    """Owned by ``Streams``. ``waiting`` are the calls, in order."""

    __slots__ = ("_busy", "_out", "waiting")

    def __init__(self, out: Outgoing) -> None:
        self._out = out
        self.waiting: deque[Stream] = deque()
        self._busy = False

    def add(self, stream: Stream) -> None:
        """Let a call wait until answers have gone."""
        self.waiting.append(stream)

    def clear(self) -> None:
        """Forget them all."""
        self.waiting.clear()

    def go_on(self, run: Callable[[Stream], None]) -> None:
        """Begin those whose turn has come, once the client has read enough or given up."""
        # What fails at once would otherwise begin the next, and so on, as deep as it goes.
        if self._busy or self._out.backlog > BACKLOG_BYTES // 2:
            return
        self._busy = True
        while self.waiting and self._out.backlog <= BACKLOG_BYTES:
            stream = self.waiting.popleft()
            if not stream.ending:
                run(stream)
        self._busy = False
