"""Sends runs to free slots as batcher and placement decide.

A pump is requested whenever something may be able to run (a commit, a slot or a buffer that came
free) and happens once at the end of the loop's turn, so that requests which arrive together run
together.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from serving.channel.arena import Arena
from serving.channel.messages import Run
from serving.channel.segment import Segment
from serving.errors import InternalError, Overloaded, ServingError
from serving.gears import next_gear
from serving.scheduling import afar
from serving.scheduling.alarm import Alarm
from serving.scheduling.batch import Batch, ShapeClass
from serving.scheduling.batcher import Decision, decide
from serving.scheduling.filling import limits_on, part_on
from serving.scheduling.flight import Flight, Flights
from serving.scheduling.line import Line
from serving.scheduling.piece import Piece
from serving.scheduling.placement import SlotView, choose
from serving.scheduling.slot import Slot
from serving.scheduling.suspicion import RunTerms
from serving.scheduling.ticket import Ticket
from serving.scheduling.turns import Turns

_log = logging.getLogger("serving.scheduler")


class Refusals(Protocol):
    """Who is told of requests that will not run."""

    def refuse(self, ticket: Ticket, error: ServingError) -> None:
        """A request that has left its line has to fail."""
        ...

    def expire(self, ticket: Ticket) -> None:
        """The deadline of a request that waits has passed."""
        ...

    def broke(self, line: Line) -> None:
        """The pump failed: nobody would ever answer those who wait in a line."""
        ...


class Pump:
    """Owns the lines in which somebody waits, and launches ``flights``. Event loop only.

    ``slots`` and ``terms`` (of runs, by model) are the scheduler's.
    """

    def __init__(
        self,
        arena: Arena,
        slots: list[Slot],
        terms: Mapping[int, RunTerms],
        refusals: Refusals,
    ) -> None:
        self._arena = arena
        self._slots = slots
        self._terms = terms
        self._refusals = refusals
        self._turns: Turns[Line] = Turns()
        self._waiting = self._turns.lines
        self._queued: dict[int, Line] = {}  # those in which some have no rows yet
        self.flights = Flights()
        self._run_ids = itertools.count(1)
        self._requested = False
        self._ended = 0.0
        self._alarm = Alarm(self.soon)

    def soon(self) -> None:
        """Ask for a pump at the end of this turn of the loop, if anybody waits."""
        if self._waiting and not self._requested:
            self._requested = True
            asyncio.get_running_loop().call_soon(self._turn)

    def waits(self, line: Line) -> None:
        """Somebody waits in a line; tell it again of one who has no rows yet."""
        self._turns.add(line)
        if line.queued:
            self._queued[line.model] = line
        self.soon()

    def forget(self, line: Line) -> None:
        """Nobody will wait in a line any more."""
        self._turns.remove(line)
        self._queued.pop(line.model, None)

    @property
    def waited_for(self) -> bool:
        """Whether anybody waits anywhere."""
        return bool(self._waiting)

    def close(self) -> None:
        """Stop waking up; the last act of a server."""
        self._alarm.close()

    def _turn(self) -> None:
        """Send what can be sent; where one run is all there is, look out for its answer."""
        self.now()
        if len(self.flights) == 1 and not self._waiting:
            (flight,) = self.flights.values()
            flight.slot.look_out()

    def now(self) -> None:
        """Send what can be sent."""
        self._requested = False
        try:
            if self.flights or len(self._waiting) != 1 or not self._dispatch_lone():
                self._dispatch_all()
        except Exception:
            _log.exception("the scheduler broke on what waits; it is refused")
            for line in list(self._waiting.values()):
                self._refusals.broke(line)

    def _dispatch_all(self) -> None:
        self._refill()
        now = time.monotonic()
        turn_s = now - self._ended
        waits: list[float] = []
        # Whose turn it is is asked anew after each run, so that a busy servable does not starve a
        # quiet one on the same workers; where all slots are taken it is nobody's.
        try:
            while self._has_free_slot() and (line := self._turns.first()) is not None:
                slot = self._free_slot(line)
                if slot is None or not self._dispatch(line, slot, now, turn_s, waits):
                    self._turns.set_aside(line)
        finally:
            self._turns.restore()
        wait_s = min(waits, default=None)
        if wait_s == 0.0:
            self.soon()
        else:
            self._alarm.set(wait_s)
        self._ended = time.monotonic()

    def _dispatch_lone(self) -> bool:
        """Send the only request that is inside, where there is nothing to decide about it.

        It pays for all of a run by itself, often with cold caches: the less code the better.
        """
        (line,) = self._waiting.values()
        if line.outstanding != 1:
            return False
        slot = self._free_slot(line)
        if slot is None or line.gears_on(slot) is not None:
            return False
        now = time.monotonic()
        batch = line.lone(now, now - self._ended)
        if batch is None:
            return False
        self._launch(line, batch, slot, Decision(1), 0, now)
        self._ended = time.monotonic()
        return True

    def _refill(self) -> None:
        """Give rows to those who wait for buffers, as far as there are any."""
        for line in list(self._queued.values()):
            while refused := line.refill():
                line.withdraw(refused[0])
                self._refusals.refuse(*refused)
            if not line.queued:
                del self._queued[line.model]
            if not line.waiting:
                self.forget(line)

    def _dispatch(
        self, line: Line, slot: Slot, now: float, turn_s: float, waits: list[float]
    ) -> bool:
        for late in line.overdue(now):
            self._refusals.expire(late)
        view = line.waiting_view(now, turn_s, slot)
        if view is None:
            return False
        batch, waiting = view
        gears = line.gears_on(slot)
        # A model frozen to a batch size takes as long for one row as for all: nothing to split.
        limits = limits_on(line.limits, gears)
        if line.speeds is not None and not line.fixed:
            share = line.speeds.share(slot.device.kind, limits.max_batch_size, waiting.rows[0])
            limits = replace(limits, max_batch_size=share)
        decision = decide(waiting, 1 if line.fixed else line.slots, limits)
        if decision.wait_s is not None:
            waits.append(decision.wait_s)
        if not decision.requests:
            return False
        part_rows = part_on(decision.part_rows, waiting.rows[0], gears)
        if gears is not None:
            batch.untie()
        if gears is not None and not _has_room(batch, gears, decision.requests, part_rows):
            if batch.tickets[0].dispatched:
                return False
            line.move_out(batch)  # into buffers with room for filler
            return True
        self._launch(line, batch, slot, decision, part_rows, now)
        return True

    def _launch(
        self, line: Line, batch: Batch, slot: Slot, decision: Decision, part_rows: int, now: float
    ) -> None:
        batch.buffer.hold()  # the run's, taken before the batch may let go of it
        requests = decision.requests
        if batch.elsewhere:
            requests = afar.fitting(batch.tickets, requests)
        pieces = line.cut(batch, requests, part_rows)
        rows = 0
        for piece in pieces:
            rows += piece.rows
            if not piece.offset:
                piece.ticket.sent = now
        slot.occupancy.began(now)
        line.sent(rows, now, decision.in_vain, batch.shape)
        buffer = batch.buffer
        try:
            self._send(line, batch, pieces, rows, slot)
        except Exception:
            _log.exception("a run could not be sent; its requests are refused")
            self._call_off(line, pieces, slot, now)
            line.landed(rows, now)
            buffer.release()
        if not line.waiting:
            self.forget(line)

    def _call_off(self, line: Line, pieces: list[Piece], slot: Slot, now: float) -> None:
        """Refuse the requests of a run that was not sent: they are in no line any more."""
        for flight in [flight for flight in self.flights.values() if flight.pieces is pieces]:
            del self.flights[flight.id]
            slot.busy = 0
            if flight.scratch is not None:
                self._arena.give(flight.scratch)
        slot.occupancy.ended(now)
        for piece in pieces:
            line.withdraw(piece.ticket)  # of a large one some may wait
            self._refusals.refuse(piece.ticket, broken())

    def _send(self, line: Line, batch: Batch, pieces: list[Piece], asked: int, slot: Slot) -> None:
        buffer, rows = batch.buffer, asked
        first = pieces[0].ticket.first + pieces[0].offset
        whole = line.fixed or next_gear(line.gears_on(slot), rows)
        if rows < whole:
            line.move_out(batch)  # else the filler would overwrite the rows that wait behind
            buffer.filled = max(buffer.filled, first + whole)
            buffer.repeat(first, first + rows, whole - rows)
            rows = whole
        errand = None
        if batch.elsewhere:
            errand = afar.errand(pieces, buffer.layout, line.description.signature)
        scratch = self._scratch(batch.shape) if buffer.output is None else None
        run = Run(
            next(self._run_ids),
            line.model,
            buffer.layout.id,
            buffer.input.id,
            buffer.output.id if buffer.output else (scratch.id if scratch else 0),
            first,
            rows,
            " ".join([p.ticket.request.id for p in pieces if p.ticket.request.id]),
            None if errand is None else errand.afar,
        )
        segments = [s for s in (buffer.input, buffer.output, scratch) if s is not None]
        self.flights[run.run] = Flight(
            run.run, line, batch.shape, buffer, first, rows, asked, pieces, slot, scratch,
            self._terms[line.model],
        )  # fmt: skip
        slot.send(run, buffer.layout, segments, () if errand is None else errand.fds)

    def _scratch(self, shape: ShapeClass) -> Segment | None:
        """Lend in advance what the last such run needed; the worker asks if it is too little."""
        if not shape.last_output_bytes:
            return None
        try:
            return self._arena.take(shape.last_output_bytes, writable_elsewhere=True)
        except Overloaded:
            return None

    def _has_free_slot(self) -> bool:
        return any(not slot.busy for slot in self._slots)

    def _free_slot(self, line: Line) -> Slot | None:
        free = [slot for slot in self._slots if not slot.busy and line.model in slot.models]
        if len(free) < 2:
            return free[0] if free else None
        busy: dict[str, int] = {}
        for slot in self._slots:
            busy[slot.worker] = busy.get(slot.worker, 0) + bool(slot.busy)
        speeds = line.speeds
        views = [
            SlotView(
                i,
                busy[slot.worker],
                slot.latest_run,
                0.0 if speeds is None else speeds.row_s(slot.device.kind),
            )
            for i, slot in enumerate(free)
        ]
        index = choose(views)
        return None if index is None else free[index]


def broken() -> ServingError:
    """Return what requests are told that the scheduler itself has failed on."""
    return InternalError("the server failed on this request; its log says more")


def _has_room(batch: Batch, gears: tuple[int, ...], requests: int, part_rows: int) -> bool:
    """Return whether the buffer of a run has the rows of its gear.

    It was made before a worker with gears was there, if it has not.
    """
    tickets = list(itertools.islice(batch.tickets, requests))
    rows = part_rows or sum(ticket.rows - ticket.dispatched for ticket in tickets)
    head = tickets[0]
    return head.first + head.dispatched + next_gear(gears, rows) <= batch.buffer.layout.rows
