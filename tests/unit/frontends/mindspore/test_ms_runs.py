"""Instances of one call on a data plane: each ends by itself, and nothing is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serving.errors import ExecutionFailed, InternalError, InvalidRequest, Overloaded
from serving.frontends.mindspore.runs import Outcome, Runs
from serving.request import InferRequest, InferResponse
from serving.tensor import FP32, Tensor
from tests.contract.rest.running import ECHO, HeldPlane, RefusingPlane
from tests.doubles.plane import StubClaim, StubPlane

REQUESTS = [InferRequest("echo", (), id=str(place)) for place in range(3)]


def told(outcomes: list[Outcome]) -> list[str]:
    return [o.id if isinstance(o, InferResponse) else o.message for o in outcomes]


async def finished(runs: Runs, found: list[list[Outcome]]) -> list[Outcome]:
    runs.start()
    async with asyncio.timeout(10):
        while not found:
            await asyncio.sleep(0)
    (outcomes,) = found
    return outcomes


async def test_an_instance_that_fails_while_it_runs_fails_alone() -> None:
    def model(request: InferRequest) -> tuple[Tensor, ...]:
        if request.id == "1":
            raise ExecutionFailed("one")
        return (Tensor("x", FP32, (1,)),)

    found: list[list[Outcome]] = []
    plane = StubPlane(ECHO, model=model)
    outcomes = await finished(Runs(plane, REQUESTS, "grpc", found.append), found)
    assert told(outcomes) == ["0", "one", "2"]
    assert plane.released == 0  # that is for whoever got them


async def test_an_instance_that_cannot_be_claimed_fails_alone() -> None:
    class Picky(StubPlane):
        def claim(self, request: InferRequest) -> StubClaim:
            if request.id == "0":
                raise InvalidRequest("zero")
            return super().claim(request)

    found: list[list[Outcome]] = []
    outcomes = await finished(Runs(Picky(ECHO), REQUESTS, "grpc", found.append), found)
    assert told(outcomes) == ["zero", "1", "2"]


async def test_instances_that_failed_before_keep_their_place() -> None:
    found: list[list[Outcome]] = []
    given = [InvalidRequest("a"), REQUESTS[1], InvalidRequest("b")]
    outcomes = await finished(Runs(StubPlane(ECHO), given, "grpc", found.append), found)
    assert told(outcomes) == ["a", "1", "b"]


async def test_a_call_of_failed_instances_ends_without_a_run() -> None:
    found: list[list[Outcome]] = []
    plane = StubPlane(ECHO)
    outcomes = await finished(Runs(plane, [InvalidRequest("a")], "grpc", found.append), found)
    assert (told(outcomes), plane.requests) == (["a"], [])


async def test_a_full_queue_refuses_all_and_takes_none() -> None:
    found: list[list[Outcome]] = []
    plane = RefusingPlane(2, Overloaded("full"))
    with pytest.raises(Overloaded):
        Runs(plane, REQUESTS, "grpc", found.append).start()
    await asyncio.sleep(0)
    assert (found, len(plane.requests), plane.abandoned) == ([], 2, 2)


@pytest.mark.parametrize("count", [1, 3])
async def test_a_refusal_that_comes_as_an_outcome_concerns_all(count: int) -> None:
    full = Overloaded("full")
    full.refused = True
    found: list[Any] = []
    plane = HeldPlane(ECHO)
    Runs(plane, REQUESTS[:count], "grpc", found.append).start()
    plane.held[-1].answer.set_exception(full)
    await asyncio.sleep(0.01)
    assert (found, plane.abandoned, plane.errors) == ([full], count - 1 or 1, [])


async def test_an_instance_that_is_refused_for_its_own_fault_fails_alone() -> None:
    wrong = InvalidRequest("wrong")
    wrong.refused = True

    def model(request: InferRequest) -> tuple[Tensor, ...]:
        if request.id == "1":
            raise wrong
        return (Tensor("x", FP32, (1,)),)

    found: list[Any] = []
    plane = StubPlane(ECHO, model=model)
    outcomes = await finished(Runs(plane, REQUESTS, "grpc", found.append), found)
    assert told(outcomes) == ["0", "wrong", "2"]


async def test_an_abandoned_call_withdraws_releases_and_does_not_finish() -> None:
    found: list[list[Outcome]] = []
    plane = HeldPlane(ECHO)
    runs = Runs(plane, REQUESTS, "grpc", found.append)
    runs.start()
    StubPlane.commit(plane, plane.held.pop(0))  # one of three is answered
    runs.abandon()
    await asyncio.sleep(0)
    assert (plane.released, plane.abandoned, found) == (1, 3, [])  # an answer is given up too


async def test_an_unforeseen_failure_is_logged_and_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found: list[list[Outcome]] = []
    plane = HeldPlane(ECHO)
    runs = Runs(plane, REQUESTS[:1], "grpc", found.append)
    runs.start()
    plane.held[0].answer.set_exception(ValueError("inner matters"))
    async with asyncio.timeout(10):
        while not found:
            await asyncio.sleep(0)
    (outcome,) = found[0]
    assert isinstance(outcome, InternalError)
    assert "inner matters" not in str(outcome)
    assert "inner matters" in caplog.text
