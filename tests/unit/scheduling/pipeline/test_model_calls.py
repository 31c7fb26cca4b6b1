"""Calls of models from inside functions: any number of instances, errors apart, nothing left."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from serving.errors import ExecutionFailed, InvalidRequest, NotFound, Overloaded, Unavailable
from serving.scheduling.pipeline import model_calls as module
from serving.scheduling.pipeline.model_calls import ModelCalls
from serving.scheduling.pipeline.port import Values
from serving.scheduling.stages.calls import CallTerms, ModelAnswer
from serving.tensor import FP32, TensorSpec
from tests.unit.scheduling.pipeline.doors import number, value_of

TERMS = CallTerms(None, 0, "r")


class Visit:
    """A claim on the model, which doubles its number when the test lets it."""

    def __init__(self, model: Model, value: int) -> None:
        self.answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.value = value
        self.releases = 0
        self._model = model
        model.waiting.append(self)

    def end(self, error: Exception | None = None) -> None:
        self._model.waiting.remove(self)
        if error is not None:
            self.answer.set_exception(error)
        else:
            self._model.held.add(self)
            self.answer.set_result(self.value * 2)

    def values(self) -> Values:
        return (number(self.answer.result()),)

    def abandon(self) -> None:
        if self in self._model.waiting:
            self._model.waiting.remove(self)
        else:
            self.release()

    def release(self) -> None:
        self._model.held.remove(self)


class Model:
    """Takes ``room`` requests at a time, of one input; refuses number 13."""

    input_rows = (TensorSpec("", FP32, ()),)

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.waiting: list[Visit] = []
        self.held: set[Visit] = set()
        self.most = 0

    def request(self, values: Values, _terms: Any) -> int:
        if value_of(values[0]) == 13:
            raise InvalidRequest("not 13")
        return value_of(values[0])

    def begin(self, _scheduler: Any, _port: Any, request: int) -> Visit:
        if len(self.waiting) >= self.room:
            raise Overloaded("full")
        visit = Visit(self, request)
        self.most = max(self.most, len(self.waiting))
        return visit


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    made = Model()
    monkeypatch.setattr(module, "ModelVisit", SimpleNamespace(begin=made.begin))
    return made


def begin(model: Model, numbers: list[int]) -> asyncio.Task[ModelAnswer]:
    pipeline: Any = SimpleNamespace(ports={("net", 0): model})
    calls = ModelCalls(None, {7: pipeline})  # type: ignore[arg-type]
    instances = [(number(n),) for n in numbers]
    return asyncio.create_task(calls.call(7, "net", 0, instances, TERMS))


async def finish(model: Model, call: asyncio.Task[ModelAnswer]) -> ModelAnswer:
    while not call.done():
        for visit in list(model.waiting)[::-1]:
            visit.end()
        await asyncio.sleep(0)
    return call.result()


def told(answer: ModelAnswer) -> list[int]:
    return [value_of(result[0]) for result in answer.results if isinstance(result, tuple)]


async def test_model_call_answers_instances_in_their_order(model: Model) -> None:
    answer = await finish(model, begin(model, list(range(6))))
    assert told(answer) == [0, 2, 4, 6, 8, 10]
    assert len(model.held) == 6
    answer.release()
    assert not model.held


async def test_model_call_of_more_than_there_is_room_for_takes_turns(model: Model) -> None:
    model.room = 3
    answer = await finish(model, begin(model, list(range(20, 40))))
    assert told(answer) == [2 * n for n in range(20, 40)]
    assert model.most == 3
    answer.release()


async def test_model_call_does_not_flood_the_model(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 5)
    (await finish(model, begin(model, list(range(20, 60))))).release()
    assert model.most == 5


async def test_model_call_on_a_full_model_is_refused(model: Model) -> None:
    model.room = 0
    (result,) = (await finish(model, begin(model, [1]))).results
    assert isinstance(result, Overloaded)


async def test_model_call_tells_the_errors_of_instances_apart(model: Model) -> None:
    call = begin(model, [1, 13, 2, 3])
    while not model.waiting:
        await asyncio.sleep(0)
    wrong = ExecutionFailed("no")
    model.waiting[1].end(wrong)
    answer = await finish(model, call)
    first, refused, failed, last = answer.results
    assert isinstance(refused, InvalidRequest)
    assert failed is wrong
    assert isinstance(first, tuple)
    assert isinstance(last, tuple)
    answer.release()
    assert not model.held


async def test_model_call_that_is_cancelled_withdraws_and_releases(model: Model) -> None:
    call = begin(model, [1, 2, 3, 4])
    while not model.waiting:
        await asyncio.sleep(0)
    model.waiting[0].end()
    for _ in range(4):
        await asyncio.sleep(0)
    model.waiting[0].end()  # answered in the very turn of the cancellation
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not model.waiting
    assert not model.held


async def test_model_call_names_what_is_not_there(model: Model) -> None:
    pipeline: Any = SimpleNamespace(ports={("net", 0): model, ("net", 1): model})
    calls = ModelCalls(None, {7: pipeline})  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="the model is not declared"):
        await calls.call(7, "other", 0, [], TERMS)
    with pytest.raises(NotFound, match="not have subgraph of index 2, the subgraph count .* is 2"):
        await calls.call(7, "net", 2, [], TERMS)
    with pytest.raises(Unavailable, match="unloaded"):
        await calls.call(8, "net", 1, [], TERMS)


async def test_model_call_runs_nothing_where_an_instance_has_another_number_of_inputs(
    model: Model,
) -> None:
    calls = ModelCalls(None, {7: SimpleNamespace(ports={("net", 0): model})})  # type: ignore[arg-type,dict-item]
    text = "The inputs count 2 of instance 1 is not equal to the inputs count 1 of the model"
    with pytest.raises(InvalidRequest, match=text):
        await calls.call(7, "net", 0, [(number(1),), (number(1), number(2))], TERMS)
    assert not model.waiting
