"""Carries out what batcher and placement decide: sends runs to slots, hands answers back.

All of it happens on the event loop. A pump is requested whenever something may be able to run
(a commit, a slot or a buffer that came free) and happens once at the end of the loop's turn, so
that requests which arrive together run together.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from dataclasses import replace

from serving.channel.arena import Arena
from serving.channel.messages import Done, Failed, Message, More, Run
from serving.channel.segment import Segment
from serving.devices import KINDS
from serving.errors import (
    Cancelled,
    DeadlineExceeded,
    InternalError,
    Overloaded,
    ServingError,
    Unavailable,
)
from serving.gears import next_gear
from serving.request import InferRequest
from serving.scheduling.alarm import Alarm
from serving.scheduling.batch import Batch, ShapeClass
from serving.scheduling.batcher import decide
from serving.scheduling.endings import Endings, who
from serving.scheduling.filling import limits_on, part_on, spare_rows
from serving.scheduling.flight import Flight, Flights
from serving.scheduling.line import Line
from serving.scheduling.piece import Piece
from serving.scheduling.placement import SlotView, choose
from serving.scheduling.slot import Slot
from serving.scheduling.speeds import Speeds
from serving.scheduling.suspicion import Loss, RunTerms, no_worker
from serving.scheduling.ticket import Ticket

_log = logging.getLogger("serving.scheduler")


class Scheduler:
    """Owns lines, slots and runs. Event loop only.

    ``no_worker`` says why there is none to be had, and so why nothing is taken in; else it is "".
    """

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.endings = Endings(arena)
        self._lines: dict[int, Line] = {}
        self._terms: dict[int, RunTerms] = {}
        self._busy: dict[int, Line] = {}  # those in which somebody waits
        self._slots: list[Slot] = []
        self.flights = Flights()
        self._run_ids = itertools.count(1)
        self._pump_requested = False
        self._pump_ended = 0.0
        self._alarm = Alarm(self.pump_soon)
        self.late_answers = 0
        self.no_worker = ""

    # -- what serves what ----------------------------------------------------------------------

    def add_line(self, line: Line, terms: RunTerms | None = None) -> None:
        """Open a waiting room; ``terms`` are those of its runs, by default without a limit."""
        self._terms[line.model] = RunTerms() if terms is None else terms
        line.on_free = self.pump_soon
        line.on_wait = self._waits
        self._lines[line.model] = line
        self.count_slots()

    def twin(self, line: Line, model: int) -> Line:
        """Open another room of a line, for suspects; what happens there counts as the line's."""
        room = Line(model, line.description, line.settings, line.static_outputs, self._arena)
        room.statistics = line.statistics
        self.add_line(room, self._terms.get(line.model))
        return room

    async def remove_line(self, line: Line, deadline_s: float) -> None:
        """Close a waiting room after its last ticket; what is late fails, running or not."""
        limit = time.monotonic() + deadline_s
        while line.outstanding and time.monotonic() < limit:
            await asyncio.sleep(0.005)
        error = Unavailable("the version was unloaded", code="unloaded", retry_after_s=1.0)
        self.fail_line(line, error)
        for flight in [f for f in self.flights.values() if f.line is line]:
            for ticket in list(flight.wanted):
                self._withdraw(ticket)
                self.endings.fail(ticket, error)
        self._lines.pop(line.model, None)
        self._busy.pop(line.model, None)
        self._terms.pop(line.model, None)

    def fail_line(self, line: Line, error: ServingError) -> None:
        """Fail everything that waits in a line."""
        for ticket in line.everyone():
            line.withdraw(ticket)
            self.endings.fail(ticket, error)

    def give_up(self, reason: str) -> None:
        """No worker can be had: fail what waits, and take nothing in until there is one."""
        self.no_worker = reason
        for line in self._lines.values():
            self.fail_line(line, no_worker(reason))

    def strand(self, model: int) -> None:
        """No worker has a model any more, and none could load it again: fail what waits for it.

        A version that is being let go of is told by nobody else, and would wait out its deadline.
        """
        line = self._lines.get(model)
        if line is not None:
            self.fail_line(
                line,
                Unavailable(
                    "the version lost its last worker, and no other could load it again",
                    code="unloaded",
                    retry_after_s=1.0,
                ),
            )

    def add_slot(self, slot: Slot) -> None:
        """Begin to use a slot."""
        if not slot.apart:
            self.no_worker = ""
        self._slots.append(slot)
        self.count_slots()
        self.pump_soon()

    def count_slots(self) -> None:
        """Tell every line how many slots serve it; call when models or slots changed."""
        for line in self._lines.values():
            mine = [slot for slot in self._slots if line.model in slot.models]
            line.slots = max(1, len(mine))
            for slot in mine:
                line.spare = max(line.spare, spare_rows(slot.gears.get(line.model)))
            if line.speeds is None and len({slot.device.kind for slot in mine}) > 1:
                line.speeds = Speeds()
            if line.waiting:
                self._waits(line)
        self.pump_soon()

    def remove_slot(self, slot: Slot) -> None:
        """Send a slot nothing more; the run that it is at goes on."""
        if slot in self._slots:
            self._slots.remove(slot)
        self.count_slots()

    def slot_lost(self, slot: Slot, loss: Loss | None) -> None:
        """A slot's worker is gone or hung: its requests run once more elsewhere, or fail.

        ``loss`` is None while it is not known what ended the worker; ``slot_reaped`` tells then.
        The rows it was writing to stay held until ``slot_reaped``.
        """
        slot.lost = True
        flight = self.flights.get(slot.busy)
        if flight is not None:
            flight.line.statistics.failed_runs += 1
            if loss is not None:
                self.endings.lost(flight, loss)
        self.remove_slot(slot)

    def slot_reaped(self, slot: Slot, loss: Loss) -> None:
        """The process of a lost slot is gone for certain: its memory may be used again."""
        flight = self.flights.pop(slot.busy, None)
        if flight is not None:
            self.endings.lost(flight, loss)  # those that still wait to be told
            if flight.scratch is not None:
                self._arena.give(flight.scratch)
            flight.line.landed(flight.asked, time.monotonic())
            flight.buffer.release()
        self.pump_soon()

    def forget_segment(self, segment_id: int) -> None:
        """A segment is being closed: workers unmap it."""
        for slot in self._slots:
            slot.forget(segment_id)

    def has_slot(self, model: int) -> bool:
        """Return whether some worker has a model loaded."""
        return any(model in slot.models for slot in self._slots)

    def workers_with(self, model: int) -> list[str]:
        """Return the names of the workers that have a model loaded, CPUs first."""
        found = {s.worker: s.device for s in self._slots if model in s.models and not s.apart}
        return sorted(found, key=lambda name: (KINDS.index(found[name].kind), found[name].index))

    @property
    def running(self) -> int:
        """Runs that workers are at."""
        return len(self.flights)

    # -- requests ------------------------------------------------------------------------------

    def claim(self, line: Line, request: InferRequest) -> Ticket:
        """Take a request in; raises InvalidRequest, Overloaded, DeadlineExceeded, Unavailable."""
        if self.no_worker:
            raise no_worker(self.no_worker)
        admission, shape = line.check(request)
        ticket = Ticket(request, admission, shape, line, time.monotonic())
        self.take(ticket)
        return ticket

    def take(self, ticket: Ticket) -> None:
        """Take in a ticket that was made for its line; raises what ``claim`` raises."""
        if self.no_worker:
            raise no_worker(self.no_worker)
        line, deadline = ticket.line, ticket.request.deadline
        line.room(ticket.nbytes)
        if deadline is not None:
            left = deadline - ticket.born
            if left <= 0:
                raise _expired(line)
            ticket.timer = asyncio.get_running_loop().call_later(left, self._expire, ticket)
        try:
            line.take(ticket)
        except ServingError:
            if ticket.timer is not None:
                ticket.timer.cancel()
            raise
        line.outstanding += 1
        line.statistics.requests += 1
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("claimed %d rows", ticket.rows, extra=who(ticket))

    def commit(self, ticket: Ticket) -> None:
        """Let a claimed request run."""
        ticket.committed = True
        self.pump_soon()

    def abandon(self, ticket: Ticket) -> None:
        """Withdraw a request: waiting rows are closed up, a run that nobody waits for ends."""
        ticket.drop()
        if not ticket.closed:
            self._withdraw(ticket)
            self.endings.fail(ticket, Cancelled("the request was withdrawn"))
            ticket.drop()

    # -- what workers say ------------------------------------------------------------------------

    def slot_said(self, slot: Slot, message: Message) -> None:
        """Take an answer from a worker; late or unknown ones are counted and dropped."""
        if isinstance(message, More):
            self._lend_more(slot, message)
            return
        if not isinstance(message, (Done, Failed)) or message.run != slot.busy:
            self.late_answers += 1
            _log.warning("dropped an unexpected %s", type(message).__name__)
            return
        flight = self.flights.pop(slot.busy)
        slot.busy = 0
        flight.line.landed(flight.asked, time.monotonic())
        if self._busy:
            self._pump()  # the worker need not wait until its answers are written
        try:
            if isinstance(message, Done):
                self.endings.finished(flight, message)
            else:
                self.endings.failed(flight, message)
        except Exception:
            _log.exception("an answer could not be handed out")
            for ticket in flight.wanted:
                self.endings.fail(ticket, _broken())
        flight.buffer.release()
        flight.line.answered(time.monotonic())
        if self._busy:
            self.pump_soon()

    # -- the pump ------------------------------------------------------------------------------

    def pump_soon(self) -> None:
        """Ask for a pump at the end of this turn of the loop."""
        if not self._pump_requested:
            self._pump_requested = True
            asyncio.get_running_loop().call_soon(self._pump)

    def close(self) -> None:
        """Stop waking up; the last act of a server."""
        self._alarm.close()

    def _waits(self, line: Line) -> None:
        self._busy[line.model] = line

    def _pump(self) -> None:
        self._pump_requested = False
        try:
            self._dispatch_all()
        except Exception:
            # Nobody would ever answer what waits: better refused than lost.
            _log.exception("the scheduler broke on what waits; it is refused")
            for line in list(self._busy.values()):
                self.fail_line(line, _broken())

    def _dispatch_all(self) -> None:
        for busy in list(self._busy.values()):
            while refused := busy.refill():
                busy.withdraw(refused[0])
                self.endings.fail(*refused)
            if not busy.waiting:
                del self._busy[busy.model]
        now = time.monotonic()
        turn_s = now - self._pump_ended
        waits: list[float] = []
        held: set[int] = set()
        # Where all slots are taken nobody else's turn comes: to ask each line in turn for its slot
        # made 64 requests for 64 servables wait 30 times as long as 64 for one.
        while self._has_free_slot() and (line := self._next(held)) is not None:
            slot = self._free_slot(line)
            if slot is None or not self._dispatch(line, slot, now, turn_s, waits):
                held.add(line.model)
        wait_s = min(waits, default=None)
        if wait_s == 0.0:
            self.pump_soon()
        else:
            self._alarm.set(wait_s)
        self._pump_ended = time.monotonic()

    def _next(self, held: set[int]) -> Line | None:
        """Return the line whose head has waited longest.

        It is asked for anew after each run, so that a busy servable does not starve a quiet one
        on the same workers.
        """
        found: Line | None = None
        longest = 0.0
        for line in self._busy.values():
            if line.waiting and line.model not in held:
                born = line.oldest()
                if born is not None and (found is None or born < longest):
                    found, longest = line, born
        return found

    def _dispatch(
        self, line: Line, slot: Slot, now: float, turn_s: float, waits: list[float]
    ) -> bool:
        for late in line.overdue(now):
            self._expire(late)
        view = line.waiting_view(now, turn_s)
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
        if gears is not None and not _has_room(batch, gears, decision.requests, part_rows):
            if batch.tickets[0].dispatched:
                return False
            line.move_out(batch)  # into buffers with room for filler
            return True
        buffer = batch.buffer
        buffer.hold()  # the run's, taken before the batch may let go of it
        pieces = line.cut(batch, decision.requests, part_rows)
        for piece in pieces:
            if not piece.offset:
                piece.ticket.sent = now
        line.sent(sum([piece.rows for piece in pieces]), now, decision.in_vain, batch.shape)
        self._send(line, batch, pieces, slot)
        return True

    def _send(self, line: Line, batch: Batch, pieces: list[Piece], slot: Slot) -> None:
        buffer = batch.buffer
        first = pieces[0].ticket.first + pieces[0].offset
        rows = asked = sum([piece.rows for piece in pieces])
        whole = line.fixed or next_gear(line.gears_on(slot), rows)
        if rows < whole:
            line.move_out(batch)  # else the filler would overwrite the rows that wait behind
            buffer.filled = max(buffer.filled, first + whole)
            buffer.repeat(first, first + rows, whole - rows)
            rows = whole
        scratch = self._scratch(batch.shape) if buffer.output is None else None
        run = Run(
            next(self._run_ids),
            line.model,
            buffer.layout.id,
            buffer.input.id,
            buffer.output.id if buffer.output else (scratch.id if scratch else 0),
            first,
            rows,
            " ".join(p.ticket.request.id for p in pieces if p.ticket.request.id),
        )
        segments = [s for s in (buffer.input, buffer.output, scratch) if s is not None]
        self.flights[run.run] = Flight(
            run.run, line, batch.shape, buffer, first, rows, asked, pieces, slot, scratch,
            self._terms[line.model],
        )  # fmt: skip
        slot.send(run, buffer.layout, segments)

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

    # -- endings -------------------------------------------------------------------------------

    def _withdraw(self, ticket: Ticket) -> None:
        ticket.line.withdraw(ticket)
        for flight in self.flights.values():
            mine = any(piece.ticket is ticket for piece in flight.pieces)
            if mine and all(wanted is ticket for wanted in flight.wanted):
                flight.slot.cancel(flight.id)

    def _expire(self, ticket: Ticket) -> None:
        if not ticket.closed:
            self._withdraw(ticket)
            self.endings.fail(ticket, _expired(ticket.line))

    def _lend_more(self, slot: Slot, more: More) -> None:
        flight = self.flights.get(more.run)
        if flight is None:
            slot.deny(more.run, "cancelled", "nobody waits for this run")
            return
        try:
            segment = self._arena.take(more.nbytes, writable_elsewhere=True)
        except Overloaded as error:
            slot.deny(more.run, error.code, str(error))
            return
        if flight.scratch is not None:
            self._arena.give(flight.scratch)
        flight.scratch = segment
        slot.grant(more.run, segment)


def _has_room(batch: Batch, gears: tuple[int, ...], requests: int, part_rows: int) -> bool:
    """Return whether the buffer of a run has the rows of its gear.

    It was made before a worker with gears was there, if it has not.
    """
    tickets = list(itertools.islice(batch.tickets, requests))
    rows = part_rows or sum(ticket.rows - ticket.dispatched for ticket in tickets)
    head = tickets[0]
    return head.first + head.dispatched + next_gear(gears, rows) <= batch.buffer.layout.rows


def _broken() -> ServingError:
    return InternalError("the server failed on this request; its log says more")


def _expired(line: Line) -> ServingError:
    return DeadlineExceeded(
        f"the request's deadline passed; servable {line.description.servable!r} has "
        f"{line.prospect}",
        fix="allow more time, or see why it is slow: GET /v2/models/NAME/stats",
    )
