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
from dataclasses import dataclass

from serving.channel.arena import Arena
from serving.channel.batch_buffer import BatchBuffer
from serving.channel.messages import Done, Failed, Message, More, Run
from serving.channel.segment import Segment
from serving.errors import (
    Cancelled,
    DeadlineExceeded,
    InternalError,
    Overloaded,
    ServingError,
    Unavailable,
    from_wire,
)
from serving.request import InferRequest, InferResponse
from serving.scheduling.batch import Batch, ShapeClass
from serving.scheduling.batcher import decide
from serving.scheduling.line import Line
from serving.scheduling.piece import Piece
from serving.scheduling.placement import SlotView, choose
from serving.scheduling.results import Part, Results, let_go, respond
from serving.scheduling.slot import Slot
from serving.scheduling.ticket import Ticket

_log = logging.getLogger("serving.scheduler")


@dataclass
class InFlight:
    """A run that a worker is at. It holds its buffer and its scratch segment."""

    id: int
    line: Line
    shape: ShapeClass
    buffer: BatchBuffer
    first: int
    rows: int
    pieces: list[Piece]
    slot: Slot
    scratch: Segment | None


class Scheduler:
    """Owns lines, slots and runs. Event loop only."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._lines: dict[int, Line] = {}
        self._slots: list[Slot] = []
        self._flights: dict[int, InFlight] = {}
        self._run_ids = itertools.count(1)
        self._pump_requested = False
        self._wake: asyncio.TimerHandle | None = None
        self.late_answers = 0

    # -- what serves what ----------------------------------------------------------------------

    def add_line(self, line: Line) -> None:
        """Open a waiting room."""
        line.on_free = self.pump_soon
        self._lines[line.model] = line
        self.count_slots()

    async def remove_line(self, line: Line, deadline_s: float) -> None:
        """Close a waiting room after the last of its tickets; what is late fails."""
        limit = time.monotonic() + deadline_s
        while line.outstanding and time.monotonic() < limit:
            await asyncio.sleep(0.005)
        self.fail_line(line, Unavailable("the version was unloaded", code="unloaded"))
        self._lines.pop(line.model, None)

    def fail_line(self, line: Line, error: ServingError) -> None:
        """Fail everything that waits in a line."""
        for ticket in line.everyone():
            line.withdraw(ticket)
            self._fail(ticket, error)

    def add_slot(self, slot: Slot) -> None:
        """Begin to use a slot."""
        self._slots.append(slot)
        self.count_slots()
        self.pump_soon()

    def count_slots(self) -> None:
        """Tell every line how many slots serve it; call when models or slots changed."""
        for line in self._lines.values():
            line.slots = max(1, sum(line.model in slot.models for slot in self._slots))
        self.pump_soon()

    def slot_lost(self, slot: Slot) -> None:
        """A slot's worker is gone or hung: its requests run once more elsewhere, or fail.

        The rows it was writing to stay held until ``slot_reaped``.
        """
        if slot in self._slots:
            self._slots.remove(slot)
        slot.lost = True
        flight = self._flights.get(slot.busy)
        if flight is not None:
            for ticket in _wanted(flight):
                self._again(ticket, _lost())
            flight.pieces = []
        self.count_slots()

    def slot_reaped(self, slot: Slot) -> None:
        """The process of a lost slot is gone for certain: its memory may be used again."""
        flight = self._flights.pop(slot.busy, None)
        if flight is not None:
            if flight.scratch is not None:
                self._arena.give(flight.scratch)
            flight.buffer.release()
        self.pump_soon()

    def forget_segment(self, segment_id: int) -> None:
        """A segment is being closed: workers unmap it."""
        for slot in self._slots:
            slot.forget(segment_id)

    def has_slot(self, model: int) -> bool:
        """Return whether some worker has a model loaded."""
        return any(model in slot.models for slot in self._slots)

    @property
    def running(self) -> int:
        """Runs that workers are at."""
        return len(self._flights)

    # -- requests ------------------------------------------------------------------------------

    def claim(self, line: Line, request: InferRequest) -> Ticket:
        """Take a request in; raises InvalidRequest, Overloaded or DeadlineExceeded."""
        admission, shape = line.check(request)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[InferResponse] = loop.create_future()
        now = time.monotonic()
        ticket = Ticket(request, admission, shape, line, answer, now)
        line.room(ticket.nbytes)
        if request.deadline is not None:
            left = request.deadline - now
            if left <= 0:
                raise _expired(line)
            ticket.timer = loop.call_later(left, self._expire, ticket)
        try:
            line.take(ticket)
        except ServingError:
            if ticket.timer is not None:
                ticket.timer.cancel()
            raise
        line.outstanding += 1
        line.statistics.requests += 1
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("claimed %d rows", ticket.rows, extra=_who(ticket))
        return ticket

    def commit(self, ticket: Ticket) -> None:
        """Let a claimed request run."""
        ticket.committed = True
        self.pump_soon()

    def abandon(self, ticket: Ticket) -> None:
        """Withdraw a request: waiting rows are closed up, a run that nobody waits for ends."""
        if not ticket.closed:
            self._withdraw(ticket)
            self._fail(ticket, Cancelled("the request was withdrawn"))
        _drop_answer(ticket)

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
        flight = self._flights.pop(slot.busy)
        slot.busy = 0
        if isinstance(message, Done):
            self._finished(flight, message)
        else:
            self._failed(flight, message)
        flight.buffer.release()
        self.pump_soon()

    # -- the pump ------------------------------------------------------------------------------

    def pump_soon(self) -> None:
        """Ask for a pump at the end of this turn of the loop."""
        if not self._pump_requested:
            self._pump_requested = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_requested = False
        for line in self._lines.values():
            while refused := line.refill():
                line.withdraw(refused[0])
                self._fail(*refused)
        now = time.monotonic()
        waits: list[float] = []
        # The line whose head has waited longest goes first, one run at a time, so that a busy
        # servable does not starve a quiet one on the same workers.
        held: set[int] = set()
        while True:
            ready = [
                (oldest, line.model)
                for line in self._lines.values()
                if line.waiting and line.model not in held and (oldest := line.oldest()) is not None
            ]
            if not ready:
                break
            line = self._lines[min(ready)[1]]
            slot = self._free_slot(line.model)
            if slot is None or not self._dispatch(line, slot, now, waits):
                held.add(line.model)
        self._sleep(min(waits) if waits else None)

    def _dispatch(self, line: Line, slot: Slot, now: float, waits: list[float]) -> bool:
        view = line.waiting_view(now)
        if view is None:
            return False
        batch, waiting = view
        # A model frozen to a batch size takes as long for one row as for all: nothing to split.
        decision = decide(waiting, 1 if line.fixed else line.slots, line.limits)
        if decision.wait_s is not None:
            waits.append(decision.wait_s)
        if not decision.requests:
            return False
        buffer = batch.buffer
        buffer.hold()  # the run's, taken before the batch may let go of it
        pieces = line.cut(batch, decision.requests, decision.part_rows)
        self._send(line, batch, pieces, slot)
        return True

    def _send(self, line: Line, batch: Batch, pieces: list[Piece], slot: Slot) -> None:
        buffer = batch.buffer
        first = pieces[0].ticket.first + pieces[0].offset
        rows = sum(piece.rows for piece in pieces)
        if line.fixed and rows < line.fixed:
            line.move_out(batch)  # else the filler would overwrite the rows that wait behind
            filler = line.fixed - rows
            buffer.filled = max(buffer.filled, first + line.fixed)
            buffer.repeat(first, first + rows, filler)
            rows = line.fixed
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
        self._flights[run.run] = InFlight(
            run.run, line, batch.shape, buffer, first, rows, pieces, slot, scratch
        )
        line.statistics.runs += 1
        line.statistics.rows += rows
        line.statistics.batch_sizes[rows] += 1
        slot.send(run, buffer.layout, segments)

    def _scratch(self, shape: ShapeClass) -> Segment | None:
        """Lend in advance what the last such run needed; the worker asks if it is too little."""
        if not shape.last_output_bytes:
            return None
        try:
            return self._arena.take(shape.last_output_bytes, writable_elsewhere=True)
        except Overloaded:
            return None

    def _free_slot(self, model: int) -> Slot | None:
        busy: dict[str, int] = {}
        for slot in self._slots:
            busy[slot.worker] = busy.get(slot.worker, 0) + bool(slot.busy)
        views = [
            SlotView(index, busy[slot.worker], slot.latest_run)
            for index, slot in enumerate(self._slots)
            if not slot.busy and model in slot.models
        ]
        index = choose(views)
        return None if index is None else self._slots[index]

    def _sleep(self, wait_s: float | None) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if wait_s is not None:
            self._wake = asyncio.get_running_loop().call_later(wait_s, self.pump_soon)

    # -- endings -------------------------------------------------------------------------------

    def _finished(self, flight: InFlight, done: Done) -> None:
        statistics = flight.line.statistics
        statistics.input_ns += done.input_ns
        statistics.infer_ns += done.infer_ns
        statistics.output_ns += done.output_ns
        if done.outputs is None:
            for piece in flight.pieces:
                self._advance(piece)
            return
        try:
            results = self._results(flight, done)
        except ServingError as error:
            for ticket in _wanted(flight):
                self._fail(ticket, error)
            return
        self._hand_out(flight, results)
        results.release()

    def _results(self, flight: InFlight, done: Done) -> Results:
        line, shape = flight.line, flight.shape
        scratch, flight.scratch = flight.scratch, None
        if scratch is not None and scratch.id != done.segment:
            self._arena.give(scratch)
            scratch = None
        used = self._arena.get(done.segment) if done.segment and scratch is None else scratch
        results = Results(done.outputs or (), used, self._arena, line.description.signature)
        shape.last_output_bytes = sum(w.nbytes + 64 for w in done.outputs or ())
        if flight.buffer.layout.outputs is not None:
            _log.warning(
                "outputs of %s have other shapes than those of an equal request before; "
                "they are copied from now on",
                line.description.servable,
            )
            line.static_outputs = False
            shape.learn(None)
        elif line.static_outputs and shape.outputs is None:
            shape.learn(results.row_fields(flight.rows, line.description.batch))
        return results

    def _hand_out(self, flight: InFlight, results: Results) -> None:
        batched = flight.line.description.batch.batched
        if batched and len(flight.pieces) > 1 and not results.has_rows(flight.rows):
            for ticket in _wanted(flight):
                self._again(ticket, InternalError("the outputs cannot be told apart by request"))
            return
        for piece in flight.pieces:
            if piece.stale:
                continue
            results.hold()
            ticket = piece.ticket
            start = ticket.first + piece.offset - flight.first if batched else 0
            ticket.parts.append(Part(piece.offset, piece.rows, results, start))
            self._advance(piece)

    def _advance(self, piece: Piece) -> None:
        """Rows of a request are done; with the last of them it is answered."""
        if piece.stale:
            return
        ticket = piece.ticket
        ticket.unfinished -= piece.rows
        if ticket.unfinished:
            return
        line = ticket.line
        try:
            response = respond(ticket, line.description.signature, line.description.batch)
        except ServingError as error:
            self._fail(ticket, error)
            return
        line.outstanding -= 1
        if _log.isEnabledFor(logging.DEBUG):
            waited_ms = (time.monotonic() - ticket.born) * 1e3
            _log.debug("answered after %.2f ms", waited_ms, extra=_who(ticket))
        ticket.succeed(response)

    def _failed(self, flight: InFlight, failed: Failed) -> None:
        if flight.scratch is not None:
            self._arena.give(flight.scratch)
        error = from_wire(failed.code, failed.message)
        tickets = _wanted(flight)
        if len(flight.pieces) == 1:
            for ticket in tickets:
                self._abort(ticket, error)
            return
        for ticket in tickets:
            self._again(ticket, error)

    def _again(self, ticket: Ticket, error: ServingError) -> None:
        """Run a request once more, alone; the second time its error stands."""
        if ticket.attempts:
            self._abort(ticket, error)
            return
        ticket.line.withdraw(ticket)
        let_go(ticket)
        ticket.attempts += 1
        try:
            ticket.line.retake(ticket)
        except ServingError as refused:
            self._fail(ticket, refused)

    def _abort(self, ticket: Ticket, error: ServingError) -> None:
        ticket.line.withdraw(ticket)  # of a large request: what has not been sent need not be
        self._fail(ticket, error)

    def _fail(self, ticket: Ticket, error: ServingError) -> None:
        if ticket.closed:
            return
        let_go(ticket)
        ticket.line.outstanding -= 1
        ticket.line.statistics.failures += 1
        _log.debug("failed: %s", error, extra=_who(ticket))
        ticket.fail(error)

    def _withdraw(self, ticket: Ticket) -> None:
        ticket.line.withdraw(ticket)
        for flight in self._flights.values():
            mine = any(piece.ticket is ticket for piece in flight.pieces)
            if mine and all(wanted is ticket for wanted in _wanted(flight)):
                flight.slot.cancel(flight.id)

    def _expire(self, ticket: Ticket) -> None:
        if not ticket.closed:
            self._withdraw(ticket)
            self._fail(ticket, _expired(ticket.line))

    def _lend_more(self, slot: Slot, more: More) -> None:
        flight = self._flights.get(more.run)
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


def _who(ticket: Ticket) -> dict[str, object]:
    description = ticket.line.description
    return {
        "servable": description.servable,
        "version": description.version,
        "request_id": ticket.request.id or None,
    }


def _wanted(flight: InFlight) -> list[Ticket]:
    """Return the requests that still want what a run does for them."""
    return [piece.ticket for piece in flight.pieces if not piece.stale]


def _drop_answer(ticket: Ticket) -> None:
    """Throw away an answer that nobody will look at; an unseen exception would be logged."""
    if not ticket.answer.cancelled() and ticket.answer.exception() is None:
        ticket.answer.result().release()


def _lost() -> ServingError:
    return Unavailable(
        "the worker that ran the request was lost",
        code="worker_lost",
        fix="send it again",
        retry_after_s=1.0,
    )


def _expired(line: Line) -> ServingError:
    return DeadlineExceeded(
        f"the request's deadline passed; servable {line.description.servable!r} has "
        f"{line.waiting} requests waiting",
    )
