"""Callers who come together fare as those who came alone: answered, failed, withdrawn, counted."""

from __future__ import annotations

import asyncio
import gc
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving.channel.arena import Arena
from serving.channel.layout import FieldShape, Layout
from serving.channel.link import pair
from serving.channel.messages import Done, Failed, Run
from serving.channel.segment import Segment
from serving.errors import ServingError
from serving.request import Description, InferRequest, InferResponse
from serving.scheduling.crowd import Crowd, CrowdLimits
from serving.scheduling.line import Line, LineSettings
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.sheaf import Sheaf, SheafClaim
from serving.scheduling.slot import Slot
from serving.scheduling.suspicion import Cause, Loss
from serving.scheduling.ticket import Ticket
from serving.tensor import FP32, BatchAxes, Signature, Tensor, TensorSpec

MOST = 8
SPECS = (TensorSpec("x", FP32, ("n", 2)),), (TensorSpec("y", FP32, ("n", 2)),)
KNOWN = Description("m", 1, Signature(*SPECS), BatchAxes(True, "test", (0,), (0,)), MOST, "stub")
PAIR = (*SPECS[0], TensorSpec("w", FP32, ("n", 3))), SPECS[1]
KNOWN_PAIR = Description(
    "m", 1, Signature(*PAIR), BatchAxes(True, "test", (0, 0), (0,)), MOST, "stub"
)


class FakeSlot(Slot):
    """Keeps its run until it is told what the worker says of it."""

    def __init__(self, scheduler: Scheduler) -> None:
        ours, self.theirs = pair()
        super().__init__(ours, scheduler, lambda: None, lambda run: None, {1}, "w")

    def send(self, run: Run, layout: Layout, segments: list[Segment], *_fds: object) -> None:
        self.busy = self.latest_run = run.run

    def close(self) -> None:
        self.theirs.close()
        super().close()


class Room:
    """A line with its slots; callers are numbered, and their rows hold their numbers.

    With ``unit`` 2 an instance has two rows, and the model a second input. ``rows`` of a caller
    are such instances.
    """

    def __init__(self, slots: int, waiting: int = 1000, unit: int = 1) -> None:
        self.unit = unit
        self.arena = Arena(1 << 24)
        self.scheduler = Scheduler(self.arena)
        crowd = Crowd(CrowdLimits())
        how = LineSettings(MOST, max_queue_delay_s=0.0, max_queue_size=waiting)
        known = KNOWN if unit == 1 else KNOWN_PAIR
        self.line = Line(1, known, how, True, self.arena, crowd, unit)
        self.crowd = crowd
        self.scheduler.add_line(self.line)
        self.slots = [FakeSlot(self.scheduler) for _ in range(slots)]
        for slot in self.slots:
            self.scheduler.add_slot(slot)
        shape = self.line.check(self._request(0, 1, 1))[1]
        shape.learn((FieldShape(FP32, (2,), 0),))
        self.came = 0
        self.rows: dict[int, int] = {}
        self.heard: dict[int, list[object]] = defaultdict(list)
        self.leaves: dict[int, Callable[[], None]] = {}
        self.left: set[int] = set()
        self.runs: list[int] = []

    def sheaf(self, callers: int, rows: int = 1) -> bool:
        first, known = self.came, list(self.heard)

        def listener(start: int, count: int, outcome: InferResponse | BaseException) -> None:
            for row in range(count):
                self._hears(first + start + row, outcome, row)
            if isinstance(outcome, InferResponse):
                outcome.release()

        asked = self._request(first, callers, rows)
        claim = self.scheduler.take_rows(self.line, asked, self.unit * rows, listener)
        assert list(self.heard) == known, "nobody hears before this returns"
        if claim is None:
            return False
        self.came += callers
        for row in range(callers):
            self.rows[first + row] = rows
            self.leaves[first + row] = self._leave(claim, row)
        return True

    def ticket(self, rows: int = 1) -> None:
        number = self.came
        ticket = self.scheduler.claim(self.line, self._request(number, 1, rows))
        self.came += 1
        self.rows[number] = rows

        def listener(outcome: InferResponse | BaseException) -> None:
            self._hears(number, outcome, 0)
            if isinstance(outcome, InferResponse):
                outcome.release()

        ticket.tell(listener)
        self.scheduler.commit(ticket)
        self.leaves[number] = lambda: self.scheduler.abandon(ticket)

    def leave(self, number: int) -> None:
        if number in self.left or number >= self.came or self.heard[number]:
            return
        self.left.add(number)
        self.leaves[number]()

    def done(self, which: int) -> None:
        slot = self._busy(which)
        if slot is None:
            return
        flight = self.scheduler.flights[slot.busy]
        end = flight.first + flight.rows
        (y,) = flight.buffer.outputs(flight.first, flight.rows)
        y[:] = flight.buffer._inputs[0][flight.first : end] * 2
        self.runs.append(flight.rows)
        self.scheduler.slot_said(slot, Done(slot.busy, 1, 1, 1))

    def fail(self, which: int) -> None:
        slot = self._busy(which)
        if slot is not None:
            self.scheduler.slot_said(slot, Failed(slot.busy, "execution_failed", "no"))

    def lose(self, which: int) -> None:
        slot = self._busy(which)
        if slot is None:
            return
        loss = Loss(Cause.ENDED, "was killed")
        self.scheduler.slot_lost(slot, loss)
        self.scheduler.slot_reaped(slot, loss)
        self.slots.remove(slot)
        slot.close()
        self.slots.append(FakeSlot(self.scheduler))
        self.scheduler.add_slot(self.slots[-1])

    async def finish(self) -> None:
        async with asyncio.timeout(10):
            while self.line.outstanding or any(slot.busy for slot in self.slots):
                self.done(0)
                await asyncio.sleep(0)
            await asyncio.sleep(0)

    def close(self) -> None:
        self.scheduler.close()
        for slot in self.slots:
            slot.close()
        self.arena.close()

    def _leave(self, claim: SheafClaim, row: int) -> Callable[[], None]:
        return lambda: self.scheduler.abandon_row(claim, row)

    def _busy(self, which: int) -> FakeSlot | None:
        busy = [slot for slot in self.slots if slot.busy]
        return busy[which % len(busy)] if busy else None

    def _hears(self, number: int, outcome: InferResponse | BaseException, row: int) -> None:
        if isinstance(outcome, InferResponse):
            array = outcome.outputs[0].array
            assert array is not None
            mine = self.rows[number] * self.unit
            rows = array[row * mine : (row + 1) * mine].tolist()
            assert rows == rows[:1] * mine
            self.heard[number].append(rows[0])
        else:
            self.heard[number].append(outcome)

    def _request(self, first: int, callers: int, each: int) -> InferRequest:
        (x,) = _request(first, callers).inputs
        assert x.array is not None
        rows = np.repeat(x.array, self.unit * each, 0)
        if self.unit == 1:
            return InferRequest("m", (Tensor("x", FP32, rows.shape, rows),))
        w = np.zeros((len(rows), 3), np.float32)
        return InferRequest(
            "m", (Tensor("w", FP32, w.shape, w), Tensor("x", FP32, rows.shape, rows))
        )


def _request(first: int, rows: int) -> InferRequest:
    numbers = np.arange(first, first + rows, dtype=np.float32)
    array = np.stack([numbers, -numbers], 1)
    return InferRequest("m", (Tensor("x", FP32, array.shape, array),))


Story = list[tuple[str, int] | tuple[str, int, int]]
steps = st.lists(
    st.tuples(st.just("sheaf"), st.integers(1, 2 * MOST), st.integers(1, MOST + 1))
    | st.tuples(st.just("ticket"), st.integers(1, 2 * MOST + 1))
    | st.tuples(st.sampled_from(["leave"]), st.integers(0, 120))
    | st.tuples(st.sampled_from(["done", "fail", "lose", "turn"]), st.integers(0, 1)),
    max_size=30,
)


@settings(deadline=None, max_examples=200)
@given(steps, st.integers(1, 2), st.integers(1, 2))
@example([("sheaf", 1), ("turn", 0), ("leave", 0)], 1, 1)
@example([("sheaf", 3), ("sheaf", 9), ("turn", 0), ("leave", 8), ("lose", 0)], 1, 2)
@example([*[("sheaf", 13)] * 6, ("leave", 70), ("leave", 77), ("turn", 0), ("done", 0)], 1, 1)
@example([*[("sheaf", 7)] * 9, ("leave", 55), ("turn", 0), ("fail", 0), ("leave", 56)], 1, 2)
@example([("sheaf", 5, 3), ("sheaf", 2), ("turn", 0), ("leave", 2), ("done", 0)], 1, 1)
@example([*[("sheaf", 9, 4), ("sheaf", 3, 2)] * 6, ("leave", 40), ("turn", 0), ("lose", 0)], 2, 1)
def test_every_caller_hears_once_whatever_becomes_of_the_others(
    story: Story, slots: int, unit: int
) -> None:
    asyncio.run(_tell(story, slots, unit))


async def _tell(story: Story, slots: int, unit: int) -> None:
    room = Room(slots, unit=unit)
    try:
        for word, *numbers in story:
            if word == "turn":
                await asyncio.sleep(0)
            else:
                getattr(room, word)(*numbers)
        await room.finish()
        faults = {step[0] for step in story} & {"fail", "lose"}
        for number in range(room.came):
            outcomes = room.heard[number]
            if number not in room.left:
                assert len(outcomes) == 1
            else:  # a failure may have been on its way
                assert len(outcomes) <= bool(faults)
            if not faults and outcomes:
                assert outcomes == [[2.0 * number, -2.0 * number]]
            if outcomes and not isinstance(outcomes[0], ServingError):
                assert outcomes == [[2.0 * number, -2.0 * number]]
        counted = room.line.statistics
        assert counted.requests == room.came
        assert sum(counted.latencies) + counted.failures == room.came
        answered = [n for n, told in room.heard.items() if told and isinstance(told[0], list)]
        assert counted.rows == sum(room.rows[n] * unit for n in answered)
        told = [number for number in room.left if room.heard[number]]
        assert counted.failed[("cancelled", "cancelled")] == len(room.left) - len(told)
        line = room.line
        assert (line.waiting, line.waiting_bytes, line._waiting_rows) == (0, 0, 0)
        assert (line.outstanding, line._running, line._running_rows) == (0, 0, 0)
        assert (room.crowd.waiting, room.crowd.waiting_bytes) == (0, 0)
        assert room.arena.used_bytes == 0
        assert max(room.runs, default=0) <= MOST
    finally:
        room.close()


async def test_nothing_of_a_sheaf_is_left_to_the_garbage_collector() -> None:
    """A circle for each turn of the loop made the collector's turns 6 ms of every 150."""
    room = Room(2)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            room.sheaf(6)
            await room.finish()
        room.leaves.clear()  # they hold the claims
        left = [kind for each in gc.get_objects() if (kind := type(each)) in (Sheaf, SheafClaim)]
        assert not left
    finally:
        gc.enable()
        room.close()


@pytest.mark.parametrize("unit", [1, 2])
async def test_callers_of_a_sheaf_are_divided_by_the_slots(unit: int) -> None:
    room = Room(2, unit=unit)
    try:
        room.sheaf(6)
        await asyncio.sleep(0)
        assert sorted(f.rows for f in room.scheduler.flights.values()) == [3 * unit, 3 * unit]
        await room.finish()
        assert [room.heard[n] for n in range(6)] == [[[2.0 * n, -2.0 * n]] for n in range(6)]
    finally:
        room.close()


async def test_sheaf_is_divided_between_its_callers_and_never_within_one() -> None:
    room = Room(1)
    try:
        room.sheaf(5, 3)
        await asyncio.sleep(0)
        (flight,) = room.scheduler.flights.values()
        assert [(p.ticket.callers, p.rows) for p in flight.pieces] == [(2, 6)]
        await room.finish()
        assert room.runs == [6, 6, 3]
        assert [room.heard[n] for n in range(5)] == [[[2.0 * n, -2.0 * n]] for n in range(5)]
        counted = room.line.statistics
        assert (counted.requests, sum(counted.latencies), counted.rows) == (5, 5, 15)
    finally:
        room.close()


@pytest.mark.parametrize("rows", [MOST, MOST + 1])
async def test_callers_with_more_rows_than_a_batch_come_one_by_one(rows: int) -> None:
    room = Room(1)
    try:
        assert room.sheaf(2, rows) is (rows == MOST)
        assert room.line.outstanding == (2 if rows == MOST else 0)
        await room.finish()
    finally:
        room.close()


async def test_caller_of_several_rows_leaves_with_all_of_them() -> None:
    room = Room(1)
    try:
        room.sheaf(2, 2)
        await asyncio.sleep(0)  # these run
        room.sheaf(3, 2)
        room.leave(3)
        room.done(0)
        await asyncio.sleep(0)
        (flight,) = room.scheduler.flights.values()
        assert flight.rows == 4
        await room.finish()
        assert [room.heard[n] for n in (2, 3, 4)] == [[[4, -4]], [], [[8, -8]]]
    finally:
        room.close()


async def test_caller_who_leaves_while_waiting_takes_its_row_along() -> None:
    room = Room(1)
    try:
        room.sheaf(2)
        await asyncio.sleep(0)  # these run
        room.sheaf(4)
        room.leave(3)
        room.done(0)
        await asyncio.sleep(0)
        (flight,) = room.scheduler.flights.values()
        assert flight.rows == 3
        await room.finish()
        assert [room.heard[n] for n in (2, 3, 4)] == [[[4, -4]], [], [[8, -8]]]
    finally:
        room.close()


async def test_callers_for_whom_there_are_no_rows_yet_stay_together() -> None:
    room = Room(1)
    try:
        sheaves, callers = 12, MOST - 3
        for _ in range(sheaves):
            room.sheaf(callers)
        queued = list(room.line._queue)
        assert sum(sheaf.callers for sheaf in queued) >= 4 * callers
        assert all(isinstance(sheaf, Sheaf) for sheaf in queued)
        await room.finish()
        assert list(room.heard) == list(range(sheaves * callers)), "in the order in which they came"
        assert room.runs[:3] == [MOST] * 3, "split where a run is full"
    finally:
        room.close()


async def test_caller_who_leaves_before_there_are_rows_leaves_the_others_where_they_were() -> None:
    room = Room(1)
    try:
        for _ in range(10):
            room.sheaf(MOST)
        gone = 10 * MOST - 3
        room.leave(gone)
        await room.finish()
        assert [n for n in room.heard if room.heard[n]] == [
            n for n in range(10 * MOST) if n != gone
        ]
    finally:
        room.close()


async def test_of_callers_who_failed_together_each_runs_alone_once_more() -> None:
    room = Room(1)
    try:
        room.sheaf(3)
        await asyncio.sleep(0)
        room.fail(0)
        await asyncio.sleep(0)
        room.fail(0)  # the first, alone
        await room.finish()
        assert isinstance(room.heard[0][0], ServingError)
        assert [room.heard[n] for n in (1, 2)] == [[[2, -2]], [[4, -4]]]
        assert room.runs == [1, 1]
    finally:
        room.close()


@pytest.mark.parametrize("waiting", [3, 4])
async def test_callers_come_together_only_if_there_is_room_for_all(waiting: int) -> None:
    room = Room(1, waiting)
    try:
        assert room.sheaf(4) is (waiting == 4)
        assert room.line.waiting == (4 if waiting == 4 else 0)
        await room.finish()
    finally:
        room.close()


async def test_ticket_stands_for_itself() -> None:
    room = Room(1)
    try:
        line = room.line
        ticket = Ticket(_request(0, 1), *line.check(_request(0, 1)), line, 0.0)
        assert list(ticket.untie()) == [ticket]
    finally:
        room.close()
