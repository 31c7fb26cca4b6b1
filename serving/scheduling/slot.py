"""The master's end of a run link: one batch at a time goes out, one answer comes back."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from serving.channel.async_link import AsyncLink
from serving.channel.busy_poll import BusyPoll
from serving.channel.layout import Layout
from serving.channel.messages import (
    Define,
    Deny,
    Forget,
    ForgetFiles,
    Grant,
    Lend,
    Message,
    Run,
)
from serving.channel.segment import Segment
from serving.devices import Device
from serving.scheduling.occupancy import Occupancy

CPU = Device()
NO_GEARS: Mapping[int, tuple[int, ...]] = MappingProxyType({})
_KEPT_LAYOUTS = 1024
_LOOK_OUT_US = 200
"""At most so long for an answer: the event loop stands still meanwhile, and new requests wait."""


class SlotEvents(Protocol):
    """Who is told what a slot says."""

    def slot_said(self, slot: Slot, message: Message) -> None:
        """A message came from the worker."""
        ...


class Slot:
    """Knows what its worker has been lent, so that nothing is sent twice.

    ``busy`` is the number of the run it works on, 0 if it is free. ``models`` are the models
    that its worker has loaded, ``gears`` the numbers of rows that some of them take. One that
    stands ``apart`` is of a worker that serves nobody. ``runs`` and ``rows`` count what was sent.
    For ``busy_poll_us``, or as long as the event loop may stand still, the answer to a run is
    looked out for where there is nothing else to do.
    """

    def __init__(
        self,
        end: socket.socket,
        events: SlotEvents,
        on_close: Callable[[], None],
        cancel: Callable[[int], None],
        models: set[int],
        worker: str,
        gears: Mapping[int, tuple[int, ...]] = NO_GEARS,
        device: Device = CPU,
        busy_poll_us: int = 0,
    ) -> None:
        self._link = AsyncLink(end, self._heard, on_close)
        self._events = events
        self._busy_poll = BusyPoll(min(busy_poll_us, _LOOK_OUT_US)) if busy_poll_us else None
        self._cancel = cancel
        self._lent: set[int] = set()
        self._sent_files = False
        self._defined: dict[int, None] = {}
        self.models = models
        self.worker = worker
        self.gears = gears
        self.device = device
        self.runs = 0
        self.rows = 0
        self.busy = 0
        self.occupancy = Occupancy()
        self.latest_run = 0
        self.lost = False
        self.apart = False

    def start(self) -> None:
        """Begin to listen."""
        self._link.start()

    def hear_out(self) -> None:
        """Take what its worker, which is gone or about to be, has said before."""
        self._link.hear_out()

    def close(self) -> None:
        """Hang up."""
        self._link.close()

    def send(
        self, run: Run, layout: Layout, segments: list[Segment], fds: Sequence[int] = ()
    ) -> None:
        """Send a run and its descriptors, behind everything that the worker needs to know."""
        for segment in segments:
            self._lend(segment)
        if layout.id not in self._defined:
            drop = tuple(list(self._defined)[: _KEPT_LAYOUTS // 2])
            if len(self._defined) < _KEPT_LAYOUTS:
                drop = ()
            for old in drop:
                del self._defined[old]
            self._link.send(Define(layout.to_json(), drop))
            self._defined[layout.id] = None
        self.busy = run.run
        self.latest_run = run.run
        self.runs += 1
        self.rows += run.rows
        self._sent_files |= bool(fds)
        self._link.send(run, fds)

    def look_out(self) -> None:
        """Wait a moment for the answer to a run; take it if it comes."""
        if self._busy_poll is not None:
            self._link.look_out(self._busy_poll)

    def grant(self, run: int, segment: Segment) -> None:
        """Lend the memory that a run asked for."""
        self._lend(segment)
        self._link.send(Grant(run, segment.id))

    def deny(self, run: int, code: str, message: str) -> None:
        """Refuse the memory that a run asked for; the run fails."""
        self._link.send(Deny(run, code, message))

    def forget(self, segment_id: int) -> None:
        """Tell the worker that a segment is gone for good."""
        if segment_id in self._lent:
            self._lent.discard(segment_id)
            self._link.send(Forget(segment_id))

    def forget_files(self) -> None:
        """Tell the worker to let go of files that came with runs."""
        if self._sent_files:
            self._sent_files = False
            self._link.send(ForgetFiles())

    def cancel(self, run: int) -> None:
        """Ask the worker to end a run early."""
        self._cancel(run)

    def _lend(self, segment: Segment) -> None:
        if segment.id not in self._lent:
            self._lent.add(segment.id)
            writable = segment.writable_elsewhere
            self._link.send(Lend(segment.id, segment.size, writable), (segment.fd,))

    def _heard(self, message: Message) -> None:
        self._events.slot_said(self, message)
