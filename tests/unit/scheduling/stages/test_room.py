"""The waiting room of one function: its order, its bound, and how many go at once."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.definition import Function
from serving.errors import Overloaded
from serving.scheduling.stages.room import Room
from serving.scheduling.stages.rooms import Rooms
from serving.scheduling.stages.ticket import StageClaim, StagePlace, StageTicket
from serving.scheduling.suspicion import RunTerms
from serving.tensor import BYTES, Tensor

ROOMS = Rooms(1, "s", (), 9, RunTerms())


def room(batch_size: int | None = 4, max_waiting: int = 100) -> Room:
    return Room("s", "predict", Function("f", 1, 1, batch_size), max_waiting)


def ticket(
    where: Room, *, priority: int = 0, deadline: float | None = None, born: float = 0.0,
    nbytes: int = 1,
) -> StageTicket:  # fmt: skip
    values = (Tensor("", BYTES, (), items=[b"x" * nbytes]),)
    claim = StageClaim(values, StagePlace("predict", 1), deadline, priority, "", born)
    loop = asyncio.new_event_loop()
    try:
        return StageTicket(claim, ROOMS, where, loop.create_future())
    finally:
        loop.close()


def test_room_goes_by_priority_then_deadline_then_age() -> None:
    waits = room()
    late = ticket(waits, born=1.0)
    later = ticket(waits, born=2.0)
    due = ticket(waits, deadline=9.0, born=3.0)
    urgent = ticket(waits, priority=-1, born=4.0)
    for each in (later, late, due, urgent):
        waits.enter(each)
    assert waits.take(9) == [urgent, due, late, later]
    assert waits.waiting == 0


@given(st.lists(st.booleans(), max_size=30), st.data())
def test_room_forgets_those_that_left(stay: list[bool], data: st.DataObject) -> None:
    waits = room()
    everyone = [ticket(waits, born=float(n)) for n in range(len(stay))]
    for each in everyone:
        waits.enter(each)
    for each, stays in zip(everyone, stay, strict=True):
        if not stays:
            waits.leave(each)
    staying = [each for each, stays in zip(everyone, stay, strict=True) if stays]
    assert waits.waiting == len(staying)
    assert sorted(map(id, waits.everyone())) == sorted(map(id, staying))
    taken = []
    while waits.head() is not None:
        taken += waits.take(data.draw(st.integers(1, 4)))
    assert taken == staying


def test_room_is_bounded() -> None:
    waits = room(max_waiting=2)
    for _ in range(2):
        waits.admit(0.0)
        waits.enter(ticket(waits))
    with pytest.raises(Overloaded) as refused:
        waits.admit(0.0)
    assert refused.value.code == "queue_full"
    assert refused.value.limit == 2
    waits.leave(waits.everyone()[0])
    waits.admit(0.0)


def test_room_lets_what_was_lost_run_alone() -> None:
    waits = room()
    first, second, third = (ticket(waits, born=float(n)) for n in range(3))
    second.attempts = 1
    for each in (first, second, third):
        waits.enter(each)
    assert waits.take(4) == [first]
    assert waits.most == 1
    assert waits.take(4) == [second]
    assert waits.take(4) == [third]


def test_room_keeps_a_run_to_so_many_bytes() -> None:
    waits = room()
    everyone = [ticket(waits, born=float(n), nbytes=30 << 20) for n in range(3)]
    for each in everyone:
        waits.enter(each)
    assert waits.take(4) == everyone[:2]
    assert waits.take(4) == everyone[2:]


@pytest.mark.parametrize(("batch_size", "most"), [(1, 1), (3, 3), (0, 128), (None, 1)])
def test_room_takes_as_many_as_its_function_wants(batch_size: int | None, most: int) -> None:
    assert room(batch_size).most == most


def test_room_sends_more_of_what_is_quick_to_a_function_for_one_instance() -> None:
    quick, slow = room(None), room(None)
    for _ in range(20):
        quick.ran(1, 0, 20_000, 0)
        slow.ran(1, 0, 20_000_000, 0)
    assert quick.most == 100
    assert slow.most == 1


def test_room_counts_how_long_a_run_has_been_under_way() -> None:
    waits = room()
    waits.ran(1, 0, 1_000_000, 0)
    assert waits.run_s(100.0) == pytest.approx(0.001)
    waits.running[5] = 90.0
    assert waits.run_s(100.0) == pytest.approx(10.0)


def test_room_is_in_use_for_a_while_after_a_claim() -> None:
    waits = room()
    assert not waits.in_use(0.0)
    waits.admit(100.0)
    assert waits.in_use(105.0)
    assert not waits.in_use(111.0)
