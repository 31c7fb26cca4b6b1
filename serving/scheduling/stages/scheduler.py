"""Hands what waits for Python functions to stage workers, and their answers back.

As with models, a pump is requested whenever something may be able to run, and happens once at the
end of the loop's turn. Values are copied once, from wherever they lie into the packet of a run;
what functions return stays in the segment that they wrote it to.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Sequence

from serving.channel.arena import Arena
from serving.channel.messages import Call, Failed, Message, More, StageDone, StageRun
from serving.definition import Function
from serving.errors import (
    Cancelled,
    DeadlineExceeded,
    InternalError,
    ServingError,
    Unavailable,
)
from serving.scheduling.stages.calling import Calling
from serving.scheduling.stages.calls import ModelCalls
from serving.scheduling.stages.endings import StageEndings, who
from serving.scheduling.stages.flight import StageFlight, StageFlights
from serving.scheduling.stages.memory import RunMemory
from serving.scheduling.stages.room import Room
from serving.scheduling.stages.rooms import Rooms
from serving.scheduling.stages.slot import StageSlot
from serving.scheduling.stages.ticket import StageClaim, StagePlace, StageTicket
from serving.scheduling.suspicion import Loss, RunTerms, no_worker
from serving.statistics import StageStatistics
from serving.tensor import Tensor

_log = logging.getLogger("serving.stages")

_KEPT_FREE_S = 1.0


class StageScheduler:
    """Owns the rooms, slots and runs of all generations. Event loop only."""

    def __init__(self, arena: Arena) -> None:
        self.flights = StageFlights()
        self.late_answers = 0
        self._memory = RunMemory(arena)
        self._calling = Calling(arena)
        self._endings = StageEndings(arena, self._memory)
        self._generations: dict[int, Rooms] = {}
        self._busy: set[Rooms] = set()  # those in which somebody may wait
        self._homes: dict[StageSlot, Rooms] = {}
        self._run_ids = itertools.count(1)
        self._pump_requested = False

    @property
    def calls(self) -> ModelCalls | None:
        """Who runs models for functions (``Model.call``); set before the first claim."""
        return self._calling.calls

    @calls.setter
    def calls(self, calls: ModelCalls) -> None:
        self._calling.calls = calls

    # -- generations ---------------------------------------------------------------------------

    def open(
        self,
        generation: int,
        servable: str,
        functions: Sequence[Function],
        max_waiting: int,
        terms: RunTerms | None = None,
    ) -> None:
        """Begin to take claims for a generation; before its workers are started.

        ``max_waiting`` bounds the instances that wait for one function within one method;
        ``terms`` say how long a run may take and whether a lost one is repeated, by default
        without a limit.
        """
        terms = RunTerms() if terms is None else terms
        self._generations[generation] = Rooms(generation, servable, functions, max_waiting, terms)

    async def close(self, generation: int, deadline_s: float) -> None:
        """Return after the last ticket of a generation, if it is open; what is late fails.

        The caller has seen to it that no new request comes; stages of those that are under way are
        still taken in meanwhile.
        """
        rooms = self._generations.get(generation)
        if rooms is None:
            return
        limit = time.monotonic() + deadline_s
        while rooms.outstanding and time.monotonic() < limit:
            await asyncio.sleep(0.005)
        rooms.closing = True
        error = rooms.refusal
        assert error is not None
        self._fail_waiting(rooms, error)
        for flight in list(self.flights.values()):
            if flight.rooms is rooms:
                for ticket in flight.wanted:
                    self._endings.fail(ticket, error)
                self._cancel_unwanted(flight)
        if rooms.timer is not None:
            rooms.timer.cancel()
        del self._generations[generation]

    def has_worker(self, generation: int) -> bool:
        """Return whether some worker of a generation is up."""
        rooms = self._generations.get(generation)
        return rooms is not None and bool(rooms.slots)

    def statistics(self, generation: int) -> tuple[StageStatistics, ...]:
        """Return how each function stands, within each method that has called it."""
        rooms = self._generations.get(generation)
        return () if rooms is None else tuple(room.statistics() for room in rooms)

    # -- workers -------------------------------------------------------------------------------

    def add_slot(self, generation: int, slot: StageSlot) -> None:
        """Begin to use a slot, if its generation is still open."""
        rooms = self._generations.get(generation)
        if rooms is None:
            return
        rooms.no_worker = ""
        rooms.slots.append(slot)
        self._homes[slot] = rooms
        self._pump_soon(rooms)

    def give_up(self, generation: int, reason: str) -> None:
        """No worker can be had: fail what waits, and take nothing in until there is one."""
        rooms = self._generations.get(generation)
        if rooms is not None and not rooms.slots:
            rooms.no_worker = reason
            self._fail_waiting(rooms, no_worker(reason))

    def slot_lost(self, slot: StageSlot, loss: Loss | None) -> None:
        """A slot's worker is gone or hung: its instances run once more, or fail.

        ``loss`` is None while it is not known what ended the worker; ``slot_reaped`` tells then.
        """
        rooms = self._homes.pop(slot, None)
        if rooms is not None and slot in rooms.slots:
            rooms.slots.remove(slot)
        slot.hear_out()
        flight = self.flights.get(slot.busy)
        if flight is not None and loss is not None:
            self._lose(flight, loss)

    def slot_reaped(self, slot: StageSlot, loss: Loss) -> None:
        """The process of a lost slot is gone for certain: its memory may be used again."""
        flight = self.flights.pop(slot.busy, None)
        if flight is None:
            return
        flight.room.landed(flight.id, len(flight.tickets), time.monotonic())
        self._lose(flight, loss)
        if flight.call is None:
            self._memory.let_go(flight)
        else:
            # What the function asked of the model is still looked at until the call has ended.
            flight.call.add_done_callback(lambda _: self._memory.let_go(flight))

    def forget_segment(self, segment_id: int) -> None:
        """A segment is being closed: workers unmap it."""
        for slot in self._homes:
            slot.forget(segment_id)

    # -- instances -----------------------------------------------------------------------------

    def claim(
        self,
        generation: int,
        function: str,
        values: tuple[Tensor, ...],
        *,
        deadline: float | None,
        priority: int,
        id: str,
        where: StagePlace,
        born: float | None = None,
    ) -> StageTicket:
        """Take one instance in; raises Overloaded, Unavailable or DeadlineExceeded.

        ``values`` are read for each run (a lost one is repeated), so they must hold until the
        ticket's answer is there or it was abandoned. ``born`` is when its request came (monotonic
        seconds), by default now: those under way for longest go first.
        """
        rooms = self._generations.get(generation)
        if rooms is None:
            raise Unavailable("the version was unloaded", code="unloaded", retry_after_s=1.0)
        if rooms.refusal is not None:
            raise rooms.refusal
        now = time.monotonic()
        room = rooms.room(where.method, function)
        if len(values) != room.function.inputs:
            raise InternalError(f"{len(values)} values for {room.function.inputs} inputs")
        room.admit(now)
        claim = StageClaim(values, where, deadline, priority, id, now if born is None else born)
        loop = asyncio.get_running_loop()
        ticket = StageTicket(claim, rooms, room, loop.create_future())
        if deadline is not None:
            if deadline <= now:
                raise _expired(room)
            ticket.timer = loop.call_later(deadline - now, self._expire, ticket)
        room.enter(ticket)
        rooms.outstanding += 1
        self._pump_soon(rooms)
        return ticket

    def abandon(self, ticket: StageTicket) -> None:
        """Withdraw an instance: its values are not looked at any more, its answer is released."""
        if not ticket.closed:
            self._end_early(ticket, Cancelled("the request was withdrawn"))
        _drop_answer(ticket)

    # -- what workers say ----------------------------------------------------------------------

    def slot_said(self, slot: StageSlot, message: Message) -> None:
        """Take what a worker says of its run; late or unknown answers are counted and dropped."""
        flight = self.flights.get(slot.busy)
        run = getattr(message, "run", None)
        if flight is None or run != flight.id:
            self.late_answers += 1
            _log.warning("dropped an unexpected %s", type(message).__name__)
            return
        try:
            self._hear(flight, message)
        except ValueError as error:
            slot.process.broken(str(error))
        except Exception:
            # Whatever it said, what it was running must have an end.
            _log.exception("what a stage worker said could not be taken in")
            slot.process.broken("it said what the server cannot take in")

    def _hear(self, flight: StageFlight, message: Message) -> None:
        """Raises ValueError for what no healthy worker says."""
        if isinstance(message, More):
            if flight.call is not None:
                raise ValueError("a run that wants memory during its call of a model")
            self._memory.lend_more(flight, message)
        elif isinstance(message, Call):
            self._calling.begin(flight, message)
            self._cancel_unwanted(flight)
        elif isinstance(message, StageDone):
            if flight.call is not None:
                raise ValueError("a run that ended during its call of a model")
            self._endings.finished(flight, message)
            self._landed(flight)
        elif isinstance(message, Failed):
            if flight.call is not None:
                raise ValueError("a run that failed during its call of a model")
            self._endings.failed(flight, message)
            self._landed(flight)
        else:
            raise ValueError(f"a {type(message).__name__} on a run link")

    def _landed(self, flight: StageFlight) -> None:
        del self.flights[flight.id]
        flight.slot.busy = 0
        flight.room.landed(flight.id, len(flight.tickets), time.monotonic())
        self._pump_soon(flight.rooms)

    # -- the pump ------------------------------------------------------------------------------

    def _pump_soon(self, rooms: Rooms) -> None:
        """Ask for a pump at the end of this turn of the loop."""
        self._busy.add(rooms)
        if not self._pump_requested:
            self._pump_requested = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_requested = False
        busy, self._busy = self._busy, set()
        for rooms in busy:
            try:
                while chosen := rooms.choose(time.monotonic()):
                    self._dispatch(rooms, *chosen)
                if rooms.keeps_free:
                    self._look_again(rooms)
            except Exception:
                # Nobody would ever answer what waits: better refused than lost.
                _log.exception("the scheduler of stages broke on what waits; it is refused")
                self._fail_waiting(rooms, _broken())

    def _look_again(self, rooms: Rooms) -> None:
        """See in a while whether a worker is kept free for a method that nobody uses any more."""
        if rooms.timer is None:
            loop = asyncio.get_running_loop()
            rooms.timer = loop.call_later(_KEPT_FREE_S, self._looked_away, rooms)

    def _looked_away(self, rooms: Rooms) -> None:
        rooms.timer = None
        self._pump_soon(rooms)

    def _dispatch(self, rooms: Rooms, slot: StageSlot, room: Room, instances: int) -> None:
        now = time.monotonic()
        tickets = []
        for ticket in room.take(instances):
            if ticket.claim.deadline is not None and ticket.claim.deadline <= now:
                self._endings.fail(ticket, _expired(room))
            else:
                tickets.append(ticket)
        if not tickets:
            return
        try:
            input = self._memory.packed([ticket.claim.values for ticket in tickets])
        except ServingError as error:
            for ticket in tickets:
                self._endings.fail(ticket, error)
            return
        run = next(self._run_ids)
        flight = StageFlight(run, rooms, room, tickets, slot, input, self._memory.output(room))
        self.flights[run] = flight
        room.running[run] = now
        slot.latest_method = room.method
        self._send(flight)

    def _send(self, flight: StageFlight) -> None:
        segments = [flight.input] if flight.output is None else [flight.input, flight.output]
        ids = " ".join(t.claim.id for t in flight.tickets if t.claim.id)
        output = 0 if flight.output is None else flight.output.id
        run = StageRun(flight.id, flight.input.id, output, flight.room.function.name, ids)
        flight.slot.send(run, segments)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug(
                "%d instances to a function", len(flight.tickets), extra=who(flight.tickets[0])
            )

    # -- endings -------------------------------------------------------------------------------

    def _lose(self, flight: StageFlight, loss: Loss) -> None:
        """Take the instances of a lost run back, unless that was done before."""
        self._endings.lost(flight, loss)
        self._pump_soon(flight.rooms)
        if flight.call is not None:
            flight.call.cancel()

    def _end_early(self, ticket: StageTicket, error: ServingError) -> None:
        self._endings.fail(ticket, error)
        for flight in self.flights.values():
            if ticket in flight.tickets:
                self._cancel_unwanted(flight)

    def _expire(self, ticket: StageTicket) -> None:
        if not ticket.closed:
            self._end_early(ticket, _expired(ticket.room))

    def _cancel_unwanted(self, flight: StageFlight) -> None:
        """End a run that nobody waits for, as far as that is possible."""
        if flight.wanted:
            return
        flight.slot.cancel(flight.id)
        if flight.call is not None:
            flight.call.cancel()

    def _fail_waiting(self, rooms: Rooms, error: ServingError) -> None:
        for room in rooms:
            for ticket in room.everyone():
                self._endings.fail(ticket, error)


def _drop_answer(ticket: StageTicket) -> None:
    """Throw away an answer that nobody will look at; an unseen exception would be logged."""
    answer = ticket.answer
    if not answer.cancelled() and answer.exception() is None:
        answer.result().release()


def _broken() -> ServingError:
    return InternalError("the server failed on this request; its log says more")


def _expired(room: Room) -> ServingError:
    return DeadlineExceeded(
        f"the request's deadline passed; function {room.function.name!r} of servable "
        f"{room.servable!r} has {room.waiting} instances waiting",
        fix="allow more time, or let more stage workers run this servable",
    )
