"""The master's end of a stage worker's run link: one run at a time goes out, one answer back."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

from serving.channel.async_link import AsyncLink
from serving.channel.messages import (
    CallDone,
    CallFailed,
    Deny,
    Forget,
    Grant,
    Lend,
    Message,
    StageRun,
    cut,
)
from serving.channel.segment import Segment


class StageSlotEvents(Protocol):
    """Who is told what a stage worker says of its runs."""

    def slot_said(self, slot: StageSlot, message: Message) -> None:
        """A message came."""
        ...


class StageProcess(Protocol):
    """The process behind a slot."""

    @property
    def name(self) -> str:
        """Its name in logs."""
        ...

    def heard_of(self) -> None:
        """It gave a sign of life."""
        ...

    def cancel(self, run: int) -> None:
        """Ask it not to begin a run."""
        ...

    def broken(self, what: str) -> None:
        """It does what no healthy worker does, and has to be replaced."""
        ...


class StageSlot:
    """Knows what its worker has been lent. ``busy`` is the run that it works on, 0 for none.

    ``latest_run`` is the last that it was sent, of ``latest_method``.
    """

    def __init__(
        self,
        end: socket.socket,
        events: StageSlotEvents,
        process: StageProcess,
        on_close: Callable[[], None],
    ) -> None:
        self._link = AsyncLink(end, self._heard, on_close)
        self._events = events
        self.process = process
        self._lent: set[int] = set()
        self.busy = 0
        self.latest_run = 0
        self.latest_method = ""

    def start(self) -> None:
        """Begin to listen."""
        self._link.start()

    def hear_out(self) -> None:
        """Take what its worker, which is gone or about to be, has said before."""
        self._link.hear_out()

    def close(self) -> None:
        """Hang up."""
        self._link.close()

    def send(self, run: StageRun, segments: list[Segment]) -> None:
        """Send a run, behind the segments that it needs."""
        for segment in segments:
            self._lend(segment)
        self.busy = self.latest_run = run.run
        self._link.send(run)

    def grant(self, run: int, segment: Segment) -> None:
        """Lend the memory that a run asked for."""
        self._lend(segment)
        self._link.send(Grant(run, segment.id))

    def deny(self, run: int, code: str, message: str) -> None:
        """Refuse the memory that a run asked for."""
        self._link.send(Deny(run, code, cut(message)))

    def call_done(self, run: int, segment: Segment) -> None:
        """Answer what a function asked of a model."""
        self._lend(segment)
        self._link.send(CallDone(run, segment.id))

    def call_failed(self, run: int, code: str, message: str) -> None:
        """Answer that it failed."""
        self._link.send(CallFailed(run, code, cut(message)))

    def forget(self, segment_id: int) -> None:
        """Tell the worker that a segment is gone for good."""
        if segment_id in self._lent:
            self._lent.discard(segment_id)
            self._link.send(Forget(segment_id))

    def cancel(self, run: int) -> None:
        """Ask the worker to end a run early, which it may be unable to."""
        self.process.cancel(run)

    def _lend(self, segment: Segment) -> None:
        if segment.id not in self._lent:
            self._lent.add(segment.id)
            writable = segment.writable_elsewhere
            self._link.send(Lend(segment.id, segment.size, writable), (segment.fd,))

    def _heard(self, message: Message) -> None:
        self.process.heard_of()
        self._events.slot_said(self, message)
