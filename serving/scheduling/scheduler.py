"""Takes requests into lines, hands what workers say to those who wait, and gives up what is lost.

All of it happens on the event loop. Runs are sent by the pump.
"""

from __future__ import annotations

import asyncio
import logging
import time
from urllib.parse import quote

from serving.channel.arena import Arena
from serving.channel.messages import Done, Failed, Message, More
from serving.devices import KINDS
from serving.errors import (
    Cancelled,
    DeadlineExceeded,
    Overloaded,
    ServingError,
    Unavailable,
)
from serving.request import InferRequest, RowsListener
from serving.scheduling.endings import Endings, who
from serving.scheduling.filling import spare_rows
from serving.scheduling.line import Line
from serving.scheduling.pump import Pump, broken
from serving.scheduling.sheaf import Sheaf, SheafClaim
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
        self._slots: list[Slot] = []
        self._pump = Pump(arena, self._slots, self._terms, self)
        self.flights = self._pump.flights
        self.late_answers = 0
        self.no_worker = ""

    # -- what serves what ----------------------------------------------------------------------

    def add_line(self, line: Line, terms: RunTerms | None = None) -> None:
        """Open a waiting room; ``terms`` are those of its runs, by default without a limit."""
        self._terms[line.model] = RunTerms() if terms is None else terms
        line.when_free(self._pump.soon)
        line.on_wait = self._pump.waits
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
        self._pump.forget(line)
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
            spare = [spare_rows(slot.gears.get(line.model)) for slot in mine]
            line.served_by(max(1, len(mine)), max(spare, default=0))
            if line.speeds is None and len({slot.device.kind for slot in mine}) > 1:
                line.speeds = Speeds()
            if line.waiting:
                self._pump.waits(line)
        self.pump_soon()

    def remove_slot(self, slot: Slot) -> None:
        """Send a slot nothing more; the run that it is at goes on."""
        if slot in self._slots:
            self._slots.remove(slot)
        self.count_slots()

    def slot_lost(self, slot: Slot, loss: Loss | None) -> None:
        """A slot's worker is gone or hung: its requests run once more elsewhere, or fail.

        ``loss`` is None while it is not known what ended the worker; ``slot_reaped`` tells then.
        The rows it was writing to stay held until ``slot_reaped``. An answer that waits to be read
        is one all the same.
        """
        slot.lost = True
        self.remove_slot(slot)
        slot.hear_out()
        flight = self.flights.get(slot.busy)
        if flight is not None:
            flight.line.statistics.failed_runs += 1
            if loss is not None:
                self.endings.lost(flight, loss)
            self.pump_soon()

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

    def forget_files(self) -> None:
        """Clients have taken files back: workers let go of them."""
        for slot in self._slots:
            slot.forget_files()

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
            ticket.timer = asyncio.get_running_loop().call_later(left, self.expire, ticket)
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

    def take_rows(
        self, line: Line, request: InferRequest, unit: int, listener: RowsListener
    ) -> SheafClaim | None:
        """Take in and commit a request of callers with ``unit`` rows each; see ``TakesRows``.

        None where they must come one by one; raises InvalidRequest.
        """
        if self.no_worker or not line.ties(unit):
            return None
        claim = SheafClaim(listener, request.inputs[0].shape[0] // unit)
        sheaf = Sheaf(claim, 0, request, unit, line, time.monotonic())
        callers = sheaf.callers
        if not line.has_room(sheaf.nbytes, callers):
            claim.sheaves.clear()
            return None
        line.outstanding += callers
        line.statistics.requests += callers
        rest: Sheaf | None = sheaf
        while rest is not None:
            sheaf, most = rest, line.batches.joinable(rest.shape, unit)
            rest = sheaf.split(most) if sheaf.callers > most else None
            try:
                line.take(sheaf)
            except ServingError as error:
                self.endings.fail(sheaf, error)
        self.pump_soon()
        return claim

    def abandon_row(self, claim: SheafClaim, caller: int) -> None:
        """Withdraw one of the callers of ``take_rows``, who from here on has a ticket alone."""
        sheaf = claim.sheaf_with(caller)
        if sheaf is not None and not self._untied(sheaf):
            return  # it is being answered
        single = claim.singles.get(caller)
        if single is not None:
            self.abandon(single)

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
        now = time.monotonic()
        slot.occupancy.ended(now)
        flight.line.landed(flight.asked, now)
        # The worker need not wait until its answers are written; of a lost one other slots may
        # still be among those that runs are sent to.
        if self._pump.waited_for and not slot.lost:
            self._pump.now()
        try:
            if isinstance(message, Done):
                self.endings.finished(flight, message)
            else:
                self.endings.failed(flight, message)
        except Exception:
            _log.exception("an answer could not be handed out")
            for ticket in flight.wanted:
                self.endings.fail(ticket, broken())
        flight.buffer.release()
        flight.line.answered(time.monotonic())
        self._pump.soon()

    # -- the pump ------------------------------------------------------------------------------

    def pump_soon(self) -> None:
        """Ask for a pump at the end of this turn of the loop."""
        self._pump.soon()

    def close(self) -> None:
        """Stop waking up; the last act of a server."""
        self._pump.close()

    def refuse(self, ticket: Ticket, error: ServingError) -> None:
        """Fail a request that has left its line; see ``Refusals``."""
        self.endings.fail(ticket, error)

    def _untied(self, sheaf: Sheaf) -> bool:
        """Untie a sheaf where it stands; returns whether it waited or ran."""
        if sheaf.waiting:
            sheaf.line.untie(sheaf)
            return True
        for flight in self.flights.values():
            if any(piece.ticket is sheaf and not piece.stale for piece in flight.pieces):
                flight.untie()
                return True
        return False

    def expire(self, ticket: Ticket) -> None:
        """Fail a request whose deadline has passed; see ``Refusals``."""
        if not ticket.closed:
            self._withdraw(ticket)
            self.endings.fail(ticket, _expired(ticket.line))

    def broke(self, line: Line) -> None:
        """Fail all who wait in a line: better refused than lost; see ``Refusals``."""
        self.fail_line(line, broken())

    # -- endings -------------------------------------------------------------------------------

    def _withdraw(self, ticket: Ticket) -> None:
        ticket.line.withdraw(ticket)
        for flight in self.flights.values():
            mine = any(piece.ticket is ticket for piece in flight.pieces)
            if mine and all(wanted is ticket for wanted in flight.wanted):
                flight.slot.cancel(flight.id)

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


def _expired(line: Line) -> ServingError:
    return DeadlineExceeded(
        f"the request's deadline passed; servable {line.description.servable!r} has "
        f"{line.prospect}",
        fix="allow more time, or see why it is slow: GET "
        f"/v2/models/{quote(line.description.servable)}/stats",
    )
