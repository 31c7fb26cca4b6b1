"""A lone call of a known form is answered as on the lane's ordinary way, whatever becomes of it."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import ExecutionFailed, Overloaded
from serving.frontends.rest import predict_frame
from serving.frontends.rest.seat import Seat
from serving.request import InferRequest, InferResponse
from serving.tensor import FP32, INT64, Tensor
from tests.doubles.plane import StubClaim, StubPlane
from tests.unit.frontends.rest.served import describe_as, spec
from tests.unit.frontends.rest.test_gathering import (
    KNOWN,
    LIKE,
    RAW,
    V2,
    Clients,
    RowsPlane,
    _timeless,
    call,
    fine,
    http,
    model,
    pool,
    texts,
)

__all__ = ["pool"]


async def _alone(plane: RowsPlane, executor: Executor, like: bytes) -> Clients:
    """Return a client whose calls have a known form, and go by themselves."""
    clients = Clients(plane, executor, 1)
    for _ in range(4):
        await clients.say([like])
    plane.requests.clear()
    plane.released = 0
    return clients


def _send(clients: Clients, request: bytes) -> None:
    clients.wires[0].data = b""
    clients.connections[0].data_received(request)
    assert isinstance(clients.connections[0].cycle, Seat), "it did not go by its form"


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_lone_call_is_answered_as_the_ordinary_way_does(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(["/predict", V2, RAW]))
    row = data.draw(fine if path == RAW else fine | texts)
    asyncio.run(_compare(call(path, row), call(path, LIKE)))


async def _compare(request: bytes, like: bytes) -> None:
    with ThreadPoolExecutor(1) as executor:
        predict_frame._frames.clear()
        ordinary = Clients(StubPlane(KNOWN, model=model), executor, 1)
        await ordinary.learn(like)
        plane = RowsPlane()
        mine = await _alone(plane, executor, like)
        (found,), (expected,) = await mine.say([request]), await ordinary.say([request])
        assert _timeless(found) == _timeless(expected)
        assert plane.released == len(plane.requests)
        assert not plane.parties


@pytest.mark.parametrize("path", ["/predict", V2, RAW])
async def test_lone_call_goes_by_its_form(pool: Executor, path: str) -> None:
    plane = RowsPlane()
    clients = await _alone(plane, pool, call(path, LIKE))
    _send(clients, call(path, LIKE))
    assert len(plane.requests) == 1


async def test_client_who_leaves_is_withdrawn(pool: Executor) -> None:
    plane = RowsPlane()
    clients = await _alone(plane, pool, call("/predict", LIKE))
    _send(clients, call("/predict", LIKE))
    clients.connections[0].connection_lost(None)
    assert plane.abandoned == 1
    for _ in range(5):
        await asyncio.sleep(0)
    assert clients.wires[0].data == b""
    assert clients.connections[0]._lane is not None
    assert clients.connections[0]._lane.gatherings.alone == 0


class LatePlane(RowsPlane):
    """Answers even those who were withdrawn."""

    def abandon(self, claim: StubClaim) -> None:
        self.abandoned += 1


async def test_answer_that_was_on_its_way_to_who_left_is_released(pool: Executor) -> None:
    plane = LatePlane()
    clients = await _alone(plane, pool, call("/predict", LIKE))
    _send(clients, call("/predict", LIKE))
    clients.connections[0].connection_lost(None)
    for _ in range(5):
        await asyncio.sleep(0)
    assert plane.released == 1
    assert clients.wires[0].data == b""


class FullPlane(RowsPlane):
    """Refuses requests, or fails them."""

    def __init__(self) -> None:
        super().__init__()
        self.refusing = self.breaking = False

    def claim(self, request: InferRequest) -> StubClaim:
        if self.refusing:
            raise Overloaded("full", retry_after_s=2.0)
        return super().claim(request)

    def commit(self, claim: StubClaim) -> None:
        if self.breaking:
            claim.answer.set_exception(ExecutionFailed("this one"))
        else:
            super().commit(claim)


@pytest.mark.parametrize(("how", "status"), [("refusing", b"429"), ("breaking", b"400")])
async def test_failure_is_told_and_counted_once(pool: Executor, how: str, status: bytes) -> None:
    plane = FullPlane()
    clients = await _alone(plane, pool, call(V2, LIKE))
    setattr(plane, how, True)
    (answer,) = await clients.say([call(V2, LIKE)])
    assert answer.startswith(b"HTTP/1.1 %b " % status)
    assert [front_end for front_end, _ in plane.errors] == ["rest"]
    setattr(plane, how, False)
    (answer,) = await clients.say([call(V2, LIKE)])
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_form_of_an_old_version_is_left(pool: Executor) -> None:
    plane = RowsPlane()
    clients = await _alone(plane, pool, call("/predict", LIKE))
    newer = describe_as(KNOWN.signature.inputs, KNOWN.signature.outputs, name="m")
    plane._known["m"][""] = newer
    (answer,) = await clients.say([call("/predict", LIKE)])
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert not isinstance(clients.connections[0].cycle, Seat)
    for _ in range(3):
        await clients.say([call("/predict", LIKE)])
    assert isinstance(clients.connections[0].cycle, Seat)


async def test_answer_waits_for_a_client_that_does_not_read(pool: Executor) -> None:
    plane = RowsPlane()
    clients = await _alone(plane, pool, call("/predict", LIKE))
    (expected,) = await clients.say([call("/predict", LIKE)])
    clients.connections[0].pause_writing()
    _send(clients, call("/predict", LIKE))
    for _ in range(5):
        await asyncio.sleep(0)
    assert clients.wires[0].data == b""
    clients.connections[0].resume_writing()
    assert clients.wires[0].data == expected


async def test_last_answer_of_a_server_that_stops_says_so(pool: Executor) -> None:
    plane = RowsPlane()
    clients = await _alone(plane, pool, call("/predict", LIKE))
    _send(clients, call("/predict", LIKE))
    clients.connections[0].shutdown()
    async with asyncio.timeout(10):
        while not clients.wires[0].data:
            await asyncio.sleep(0)
    assert b"connection: close\r\n" in clients.wires[0].data
    assert clients.wires[0].closed


class Counting(ThreadPoolExecutor):
    """Knows how much it was asked to do."""

    asked = 0

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        self.asked += 1
        return super().submit(*args, **kwargs)


async def test_long_answer_is_written_on_a_thread() -> None:
    y = np.arange(70_000, dtype=np.float32).reshape(1, -1)

    def long(_request: InferRequest) -> tuple[Tensor, ...]:
        return (Tensor("y", FP32, y.shape, y), Tensor("n", INT64, (1,), np.array([1])))

    with Counting(1) as executor:
        plane = RowsPlane()
        plane._model = long
        clients = await _alone(plane, executor, call(V2, LIKE))
        executor.asked = 0
        _send(clients, call(V2, LIKE))
        async with asyncio.timeout(10):
            while not clients.wires[0].data:
                await asyncio.sleep(0.001)
        assert executor.asked == 1
        assert plane.released == 1
        outputs = json.loads(clients.wires[0].data.partition(b"\r\n\r\n")[2])["outputs"]
        assert outputs[0]["data"] == list(range(70_000))


SQUARE = describe_as((spec("x", FP32, "n", 2, 2),), (spec("y", FP32, "n"),), name="m")


class SumsPlane(RowsPlane):
    """Adds up four numbers a row."""

    def __init__(self) -> None:
        super().__init__()
        self._known = {"m": {"": SQUARE}}
        self._model = self._sums

    @staticmethod
    def _sums(request: InferRequest) -> tuple[Tensor, ...]:
        x = request.inputs[0].array
        assert x is not None
        assert x.shape[1:] == (2, 2)
        y = x.reshape(len(x), -1).sum(1)
        return (Tensor("y", FP32, y.shape, y),)

    def take_rows(self, request: InferRequest, unit: int, listener: Any) -> object:
        assert unit == 1
        self.parties.append(request.inputs[0].shape[0])
        response = InferResponse("m", 3, "", self._sums(request), self._count_release)
        loop = asyncio.get_running_loop()
        loop.call_soon(listener, 0, request.inputs[0].shape[0], response)
        return self


def _nested(text: str) -> bytes:
    return http("/predict", b'{"instances": [{"x": %b}]}' % text.encode())


async def test_rows_of_lists_in_lists_go_together(pool: Executor) -> None:
    plane = SumsPlane()
    clients = Clients(plane, pool, 4)
    await clients.learn(_nested("[[1,2],[3,4]]"))
    plane.parties.clear()
    rows = ["[[1,2],[3,4]]", "[[5,6],[7,8]]", "[[0,0],[0,1]]", "[[9,9],[9,9]]"]
    answers = await clients.say([_nested(row) for row in rows])
    assert plane.parties == [4]
    assert [json.loads(a.partition(b"\r\n\r\n")[2])["instances"][0]["y"] for a in answers] == [
        10, 26, 1, 36,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "odd",
    ["[[1,2,3],[4]]", "[[1,2],[3 4]]", "[1,[2],[3],4]", '[[1,"],[",4]]', "[[1,2],3,[4]]",
     "[[1],[2,3,4]]", "[[true,2],[]]", "[[1,2],[3, ]]"],
)  # fmt: skip
async def test_row_of_other_lists_is_refused_alone(pool: Executor, odd: str) -> None:
    plane = SumsPlane()
    clients = Clients(plane, pool, 3)
    await clients.learn(_nested("[[1,2],[3,4]]"))
    assert len(odd) == len("[[1,2],[3,4]]")
    answers = await clients.say([_nested("[[1,2],[3,4]]"), _nested(odd), _nested("[[5,6],[7,8]]")])
    assert [answer.split()[1] for answer in answers] == [b"200", b"400", b"200"]
    (answer,) = await clients.say([_nested(odd)])
    assert answer.split()[1] == b"400"
