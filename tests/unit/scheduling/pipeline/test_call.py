"""Requests of several instances: joined answers, errors that name the instance, nothing left."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from serving.definition import INPUTS, Kind, Method, Node, Ref
from serving.errors import Cancelled, DeadlineExceeded, ExecutionFailed, Overloaded
from serving.request import InferRequest
from serving.scheduling.pipeline import call as module
from serving.scheduling.pipeline.call import MethodCall
from serving.scheduling.pipeline.graph import Graph
from serving.scheduling.statistics import LineStatistics
from serving.tensor import Tensor
from tests.unit.scheduling.pipeline.doors import Doors, stage

NODE = Node(Kind.FUNCTION, "f", (Ref(INPUTS, 0),), 2)
METHOD = Method("m", ("x",), ("y", "x"), (NODE,), (Ref(0, 1), Ref(INPUTS, 0)))


class Case:
    """One call of a method with one stage and a value that is passed through."""

    def __init__(self, rows: int, **terms: Any) -> None:
        self.doors = Doors()
        self.statistics = LineStatistics()
        self.ended: list[MethodCall] = []
        if rows:
            self.begin(rows, **terms)

    def begin(self, rows: int, **terms: Any) -> None:
        x = Tensor.of("x", np.arange(rows, dtype=np.int64))
        request = InferRequest("s", (x,), **terms)
        self.call = MethodCall(
            request, (x,), rows, Graph(METHOD), self.doors, self.statistics, self.ended.append, 1
        )
        self.call.start()

    async def all_end(self) -> None:
        while self.doors.waiting:
            self.doors.waiting[-1].end()
            await asyncio.sleep(0)
        await asyncio.sleep(0)


def values(tensor: Tensor) -> list[int]:
    assert tensor.array is not None
    numbers: list[int] = tensor.array.tolist()
    return numbers


async def test_call_joins_instances_in_their_order() -> None:
    case = Case(3)
    await case.all_end()
    response = case.call.answer.result()
    y, x = response.outputs
    assert (y.name, x.name) == ("y", "x")
    assert values(y) == [stage(NODE, (n,))[1] for n in range(3)]
    assert values(x) == [0, 1, 2]
    assert not case.doors.held, "what was joined was copied"
    response.release()
    assert case.statistics.rows == 3
    assert case.ended == [case.call]


async def test_call_of_one_instance_holds_its_memory_until_release() -> None:
    case = Case(1)
    await case.all_end()
    response = case.call.answer.result()
    assert values(response.outputs[0]) == [stage(NODE, (0,))[1]]
    assert len(case.doors.held) == 1
    response.release()
    assert not case.doors.held


async def test_call_gives_wanted_outputs_in_the_wanted_order() -> None:
    case = Case(2, outputs=("x", "y"))
    await case.all_end()
    assert [t.name for t in case.call.answer.result().outputs] == ["x", "y"]


async def test_call_fails_as_one_and_names_the_instance() -> None:
    case = Case(3)
    case.doors.waiting[1].end(ExecutionFailed("odd", code="stage_failed"))
    await asyncio.sleep(0)
    with pytest.raises(ExecutionFailed, match="instance 1: odd") as caught:
        case.call.answer.result()
    assert (caught.value.where, caught.value.code) == ("instances[1]", "stage_failed")
    assert (case.doors.abandoned, case.doors.held) == (2, set())
    assert case.statistics.failures == 1
    assert case.ended == [case.call]


async def test_call_of_one_instance_keeps_the_error_as_it_is() -> None:
    case = Case(1)
    error = ExecutionFailed("odd")
    case.doors.waiting[0].end(error)
    await asyncio.sleep(0)
    assert case.call.answer.exception() is error


async def test_call_that_is_abandoned_withdraws_its_instances() -> None:
    case = Case(3)
    case.doors.waiting[0].end()
    case.call.abandon()
    await asyncio.sleep(0)
    assert isinstance(case.call.answer.exception(), Cancelled)
    assert not case.doors.held
    assert not case.doors.waiting
    assert case.ended == [case.call]


async def test_call_that_is_abandoned_after_its_answer_releases_that() -> None:
    case = Case(1)
    await case.all_end()
    case.call.abandon()
    assert not case.doors.held
    case.call.abandon()


async def test_call_ends_at_its_deadline_wherever_it_is() -> None:
    case = Case(2, deadline=time.monotonic() + 0.05)
    with pytest.raises(DeadlineExceeded, match="method 'm'"):
        await asyncio.wait_for(case.call.answer, 5)
    assert not case.doors.waiting


async def test_call_whose_caller_went_away_releases_its_answer() -> None:
    case = Case(1)
    case.call.answer.cancel()
    await case.all_end()
    assert not case.doors.held
    assert case.ended == [case.call]


async def test_call_of_many_instances_has_some_under_way_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 4)
    case = Case(11)
    most = 0
    while case.doors.waiting:
        most = max(most, len(case.doors.waiting))
        case.doors.waiting[0].end()
        await asyncio.sleep(0)
    assert most == 4
    assert values(case.call.answer.result().outputs[1]) == list(range(11))


async def test_call_of_many_instances_waits_for_room_and_not_without_company() -> None:
    room = 3

    def refuse(_node: Node) -> Overloaded | None:
        return Overloaded("full") if len(case.doors.waiting) >= room else None

    case = Case(0)
    case.doors = Doors(refuse)
    case.begin(10)
    while case.doors.waiting:
        assert len(case.doors.waiting) <= room
        case.doors.waiting[0].end()
        await asyncio.sleep(0)
    assert values(case.call.answer.result().outputs[1]) == list(range(10))
    room = 0
    case.begin(10)
    with pytest.raises(Overloaded, match="instance 0: full"):
        await case.call.answer


async def test_call_hands_its_terms_to_every_stage() -> None:
    deadline = time.monotonic() + 60
    case = Case(2, id="abc", deadline=deadline, priority=3)
    for method, index, terms in case.doors.entered:
        assert (method, index, terms[:3]) == ("m", 0, ("abc", deadline, 3))
    case.call.abandon()
