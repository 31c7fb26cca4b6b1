"""Tries suspects one by one in a worker that serves nobody, so that no serving one is lost to them.

When one of them ends that worker it is to blame, and those behind it are tried in another: a batch
may hold several of its kind. When all have been tried, all have been answered.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from serving.channel.messages import Load
from serving.devices import Device
from serving.errors import LoadError, Unavailable
from serving.master.places import Place
from serving.master.trials import started, trial_spec
from serving.master.worker import Worker
from serving.scheduling.line import Line
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.suspicion import lost
from serving.scheduling.ticket import Ticket

_log = logging.getLogger("serving.quarantine")

_AT_ONCE = 2
_LOOK_S = 0.005
_FIRST_MODEL = 1 << 31
"""Models that are loaded here are numbered from here on: nobody else counts so far."""


@dataclass
class _Ward:
    """The suspects of one line: those who wait for a worker, and the room they are tried in."""

    line: Line
    device: Device
    waiting: collections.deque[Ticket] = field(default_factory=collections.deque)
    room: Line | None = None


class Quarantine:
    """Owns the workers that suspects are tried in; implements ``Apart``. Event loop only.

    ``order_of`` tells how a model is loaded on a device, within how many seconds and from which
    place; None when it is not any more.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        order_of: Callable[[int, Device], tuple[Load, float, Place] | None],
        log_level: str,
        nice: int = 0,
    ) -> None:
        self._scheduler = scheduler
        self._order_of = order_of
        self._log_level = log_level
        self._nice = nice
        self._wards: dict[int, _Ward] = {}
        self._lanes = asyncio.Semaphore(_AT_ONCE)
        self._models = itertools.count(_FIRST_MODEL)
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.workers: set[Worker] = set()

    # -- Apart ---------------------------------------------------------------------------------

    def try_apart(self, line: Line, tickets: list[Ticket], device: Device) -> None:
        """Run each request alone, apart; see ``Apart``."""
        ward = self._wards.get(line.model)
        if ward is None:
            ward = self._wards[line.model] = _Ward(line, device)
            line.outstanding += 1  # the line is not closed before its suspects are back
            task = asyncio.create_task(self._treat(ward))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        ward.waiting.extend(tickets)
        if ward.room is not None:
            self._admit(ward, ward.room)

    async def stop(self) -> None:
        """Begin nothing more, and end workers that are on their way; the others are ended later."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- WorkerEvents --------------------------------------------------------------------------

    def worker_lost(self, worker: Worker) -> None:
        """Settle the request that it ran."""
        for slot in worker.slots:
            self._scheduler.slot_lost(slot, worker.loss)

    def worker_reaped(self, worker: Worker) -> None:
        """Free what it could write to."""
        assert worker.loss is not None
        for slot in worker.slots:
            self._scheduler.slot_reaped(slot, worker.loss)

    # -- inside --------------------------------------------------------------------------------

    async def _treat(self, ward: _Ward) -> None:
        """Try suspects for as long as there are some; every one is answered."""
        who = {"servable": ward.line.description.servable}
        try:
            while waiting := sum(not ticket.closed for ticket in ward.waiting):
                _log.warning("%d suspects are tried apart", waiting, extra=who)
                async with self._lanes:
                    await self._round(ward)
        except (LoadError, Unavailable) as error:
            _log.error("suspects cannot be tried apart: %s", error, extra=who)
        finally:
            del self._wards[ward.line.model]
            ward.line.outstanding -= 1
            for ticket in ward.waiting:
                self._scheduler.endings.fail(ticket, lost())

    async def _round(self, ward: _Ward) -> None:
        """Try suspects in one worker until it is lost, or all have their answers."""
        found = self._order_of(ward.line.model, ward.device)
        if found is None:
            raise LoadError("it was unloaded")
        order, timeout_s, place = found
        self._count += 1
        name = f"apart-{self._count}"
        spec = trial_spec(name, self._log_level, slots=1, place=place, nice=self._nice)
        worker = await started(spec, self._scheduler, self)
        self.workers.add(worker)
        room: Line | None = None
        try:
            model = next(self._models)
            await worker.load(replace(order, model=model, prove=False), timeout_s)
            room = ward.room = self._scheduler.twin(ward.line, model)
            for slot in worker.slots:
                slot.apart = True
                self._scheduler.add_slot(slot)
            self._admit(ward, room)
            while room.outstanding and not worker.gone.is_set():
                await asyncio.sleep(_LOOK_S)
        finally:
            ward.room = None
            worker.stopping = True
            worker.kill()
            await worker.gone.wait()
            self.workers.discard(worker)
            if room is not None:
                await self._leave(ward, room)

    def _admit(self, ward: _Ward, room: Line) -> None:
        """Let those who wait into the room where they are tried, except who has gone."""
        while ward.waiting:
            ticket = ward.waiting.popleft()
            if not ticket.closed:
                _move(ticket, room)
                self._scheduler.endings.retake(ticket)

    async def _leave(self, ward: _Ward, room: Line) -> None:
        """Let those whose turn did not come wait for the next worker, and close the room."""
        for ticket in list(room.everyone()):
            room.withdraw(ticket)
            _move(ticket, ward.line)
            ward.waiting.append(ticket)
        await self._scheduler.remove_line(room, 0)


def _move(ticket: Ticket, line: Line) -> None:
    ticket.line.outstanding -= 1
    line.outstanding += 1
    ticket.line = line
    ticket.admission, ticket.shape = line.check(ticket.request)
