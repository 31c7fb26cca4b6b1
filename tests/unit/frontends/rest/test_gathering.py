"""Calls that go together are answered as those that go alone, whatever is among them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from serving.errors import ExecutionFailed, Overloaded
from serving.frontends.rest import predict_frame
from serving.frontends.rest.connection import Connection
from serving.frontends.rest.lane import Lane
from serving.frontends.rows import rows_of
from serving.request import InferRequest, InferResponse, RowsListener
from serving.tensor import FP32, INT64, Tensor
from tests.doubles.plane import StubPlane
from tests.unit.frontends.rest.served import describe_as, spec

KNOWN = describe_as(
    (spec("x", FP32, "n", 3),), (spec("y", FP32, "n", 2), spec("n", INT64, "n")), name="m"
)
MOST = KNOWN.max_batch_size // 2
V2 = "/v2/models/m/infer"
RAW = V2 + "?"  # no URL: the mark of binary bodies
V1 = "/v1/models/m:predict"
V1_NAMED = V1 + "?"
MINDSPORE = "/model/m:predict"
PATHS = ["/predict", V2, RAW, V1, V1_NAMED, MINDSPORE]


def model(request: InferRequest) -> tuple[Tensor, ...]:
    """Turn a row a, b, c into y = (a + b, b / c) and n = its length in characters, or so."""
    x = request.inputs[0].array
    assert x is not None
    with np.errstate(all="ignore"):
        y = np.ascontiguousarray(np.stack([x[:, 0] + x[:, 1], x[:, 1] / x[:, 2]], 1))
    n = np.ascontiguousarray(np.nan_to_num(x[:, 2], posinf=1, neginf=1).astype(np.int64))
    return (Tensor("y", FP32, y.shape, y), Tensor("n", INT64, n.shape, n))


class RowsPlane(StubPlane):
    """Takes rows together; hands answers out in pieces as ``cut`` says, or single failures."""

    def __init__(self, cut: Callable[[int], int] = lambda rows: rows) -> None:
        super().__init__(KNOWN, model=model)
        self.cut = cut
        self.parties: list[int] = []
        self.left: list[int] = []
        self.failing: set[int] = set()
        self.full = False
        self.unwilling = False

    def take_rows(self, request: InferRequest, unit: int, listener: RowsListener) -> object | None:
        if self.full:
            raise Overloaded("full")
        if self.unwilling:
            return None
        callers, left = divmod(request.inputs[0].shape[0], unit)
        assert not left
        self.parties.append(callers)
        outputs = [t for t in model(request) if t.name in (request.outputs or ("y", "n"))]
        whole = InferResponse("m", 3, "", tuple(outputs))

        def tell() -> None:
            at = 0
            while at < callers:
                count = max(1, min(callers - at, self.cut(callers)))
                if at in self.failing:
                    listener(at, 1, ExecutionFailed("this one"))
                    at += 1
                    continue
                singles = [rows_of(whole, n, unit).outputs for n in range(at, at + count)]
                outputs = tuple(_joined(list(column)) for column in zip(*singles, strict=True))
                listener(at, count, InferResponse("m", 3, "", outputs, self._count_release))
                at += count

        asyncio.get_running_loop().call_soon(tell)
        return self

    def abandon_row(self, claim: object, caller: int) -> None:
        assert claim is self
        self.left.append(caller)


def _joined(tensors: list[Tensor]) -> Tensor:
    array = np.concatenate([t.array for t in tensors if t.array is not None])
    return Tensor(tensors[0].name, tensors[0].dtype, array.shape, array)


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}.get(name, default)

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.data += bytes(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_write_buffer_limits(self, high: Any = None, low: Any = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0


class Clients:
    """Connections to one lane."""

    def __init__(self, plane: StubPlane, pool: Executor, count: int) -> None:
        async def app(_scope: object, _receive: object, _send: object) -> None:
            raise AssertionError("a call went the ordinary way")

        config = uvicorn.Config(app, interface="asgi3", log_level="error", access_log=False)
        config.load()
        lane = Lane(plane, pool, 1 << 20)  # type: ignore[arg-type]
        lane.set_date([(b"date", b"today")])
        self.wires = [Wire() for _ in range(count)]
        self.connections = [Connection(config, ServerState(), lane, plane) for _ in range(count)]
        for wire, connection in zip(self.wires, self.connections, strict=True):
            connection.connection_made(wire)

    async def say(self, requests: list[bytes]) -> list[bytes]:
        """Send a request over each connection in one turn of the loop; return the answers."""
        used = list(zip(self.wires, self.connections, requests, strict=False))
        for wire, connection, request in used:
            wire.data = b""
            connection.data_received(request)
        async with asyncio.timeout(10):
            while not all(wire.data for wire, _, _ in used):
                await asyncio.sleep(0)
        return [wire.data for wire, _, _ in used]

    async def learn(self, *requests: bytes) -> None:
        """Let the lane know requests, and that they come together."""
        for _ in range(3):
            for request in requests:
                await self.say([request])
        for _ in range(3):
            for request in requests:
                await self.say([request] * 2)


def http(path: str, body: bytes, *fields: str) -> bytes:
    lines = [f"POST {path.rstrip('?')} HTTP/1.1", "host: h", "content-type: application/json"]
    lines += [*fields, f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def call(path: str, numbers: list[Any] | str) -> bytes:
    text = numbers if isinstance(numbers, str) else json.dumps(numbers)
    if path == V1:
        return http(path, b'{"instances": [%b]}' % text.encode())
    if path == V1_NAMED:
        signature = b'{"signature_name": "serving_default", "instances": [{"x": %b}]}'
        return http(path, signature % text.encode())
    if path in ("/predict", MINDSPORE):
        return http(path, b'{"instances": [{"x": %b}]}' % text.encode())
    return v2_call(path, text, numbers, 1)


def v2_call(path: str, text: str, numbers: list[Any] | str, rows: int) -> bytes:
    """Call with so many rows, whose numbers stand behind one another."""
    head = b'{"inputs":[{"name":"x","shape":[%d,3],"datatype":"FP32",' % rows
    if path == V2:
        return http(path, head + b'"data":%b}]}' % text.encode())
    data = np.array(numbers, np.float32).tobytes()
    head += b'"parameters":{"binary_data_size":%d}}],"outputs":[' % len(data)
    head += b'{"name":"y","parameters":{"binary_data":true}}]}'
    return http(path, head + data, f"inference-header-content-length: {len(head)}")


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as found:
        yield found


LIKE = [1.5, 2.5, 4.0]
fine = st.lists(st.floats(0, 9, width=16).map(lambda x: round(x, 1)), min_size=3, max_size=3)
# As long as the others, or they would not be looked at together.
texts = st.sampled_from(
    ["[1,2.5,[4]]", "[1.5,2.5,4", "[1.5,2.5],4", "[1.5,,2.54]", "[true,2.5,4]", '["1",2.5,4]',
     "[null,2.5,4]", "[1.5, 2.5,0]", "[1e999,2.,4]", "[1.5,2.5,4,]", "[1.5,2.54.0]", "[],[1,2,34]",
     "[1.5,2,5,4.0]", "[1,2,3,4]", "[1.5, 254.0]", "[1,2]", "[1,2],[3,4]", "[]", "[1", "1,2,3,4]"]
).map(lambda text: text[0] + " " * (15 - len(text)) + text[1:])  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_calls_that_come_together_are_answered_as_those_that_come_alone(
    data: st.DataObject,
) -> None:
    path = data.draw(st.sampled_from(PATHS))
    one = fine if path == RAW else fine | texts
    rows = data.draw(st.lists(one, min_size=2, max_size=9))
    cut = data.draw(st.integers(1, 9))
    failing = data.draw(st.booleans()) and len(rows)
    asyncio.run(_compare([call(path, row) for row in rows], call(path, LIKE), cut, bool(failing)))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_calls_of_several_rows_are_answered_as_those_that_come_alone(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([V2, RAW]))
    rows = data.draw(st.integers(2, 5))
    several = st.lists(fine, min_size=rows, max_size=rows)
    found = data.draw(st.lists(several, min_size=2, max_size=9))
    calls = [[number for row in each for number in row] for each in found]
    requests = [v2_call(path, _padded(numbers), numbers, rows) for numbers in calls]
    if path == V2:
        # As long as the others, with a number too many, or one that is none.
        for spoilt in data.draw(st.lists(st.sampled_from(["1,", "x ", "[]", "  "]), max_size=2)):
            requests.append(v2_call(path, _padded(calls[0], spoilt), [], rows))
    like = v2_call(path, _padded(LIKE * rows), LIKE * rows, rows)
    cut = data.draw(st.integers(1, 9))
    failing = data.draw(st.booleans())
    asyncio.run(_compare(requests, like, cut, failing))


def _padded(numbers: list[float], more: str = "") -> str:
    return f"[{more}{json.dumps(numbers)[1:-1]}".ljust(100) + "]"


async def _compare(requests: list[bytes], like: bytes, cut: int, failing: bool) -> None:
    with ThreadPoolExecutor(1) as pool:
        alone = Clients(StubPlane(KNOWN, model=model), pool, len(requests))
        plane = RowsPlane(lambda _: cut)
        together = Clients(plane, pool, len(requests))
        predict_frame._frames.clear()
        await alone.learn(like)
        await together.learn(like)
        assert plane.parties, "nothing ever went together"
        plane.failing = {1} if failing else set()
        plane.parties.clear()
        plane.released = 0
        expected = [(await alone.say([request]))[0] for request in requests]
        found = await together.say(requests)
        for index, (mine, other) in enumerate(zip(found, expected, strict=True)):
            if not (failing and b"this one" in mine):
                assert _timeless(mine) == _timeless(other), index
        assert not plane.left


def _timeless(answer: bytes) -> bytes:
    """Return an answer without the id that errors are logged with."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.splitlines()[0]:
        return (
            head.splitlines()[0]
            + json.dumps(
                {k: v for k, v in json.loads(body).items() if k != "request_id"}, sort_keys=True
            ).encode()
        )
    return answer


@pytest.mark.parametrize("path", PATHS)
async def test_every_wire_format_goes_together(pool: Executor, path: str) -> None:
    plane = RowsPlane()
    clients = Clients(plane, pool, 4)
    await clients.learn(call(path, LIKE))
    plane.parties.clear()
    plane.requests.clear()
    await clients.say([call(path, LIKE)] * 4)
    assert (plane.parties, plane.requests) == ([4], [])


@pytest.mark.parametrize("path", [V2, RAW])
async def test_calls_of_as_many_rows_each_go_together(pool: Executor, path: str) -> None:
    def several(rows: int) -> bytes:
        return v2_call(path, json.dumps(LIKE * rows), LIKE * rows, rows)

    plane = RowsPlane()
    clients = Clients(plane, pool, 6)
    for rows in (1, 2, MOST):
        await clients.learn(several(rows))
    plane.parties.clear()
    plane.requests.clear()
    answers = await clients.say([several(rows) for rows in (1, 2, MOST, MOST, 2, 2)])
    assert sorted(plane.parties) == [2, 3]
    assert [request.inputs[0].shape[0] for request in plane.requests] == [1]
    assert answers[1] == answers[4] == answers[5]
    assert answers[2] == answers[3]


async def test_calls_of_more_rows_than_half_a_run_go_alone(pool: Executor) -> None:
    numbers = LIKE * (MOST + 1)
    plane = RowsPlane()
    clients = Clients(plane, pool, 3)
    await clients.learn(v2_call(V2, json.dumps(numbers), numbers, MOST + 1))
    assert plane.parties == []


async def test_many_calls_of_one_turn_are_one_request(pool: Executor) -> None:
    plane = RowsPlane()
    clients = Clients(plane, pool, 8)
    await clients.learn(call("/predict", LIKE))
    plane.parties.clear()
    answers = await clients.say([call("/predict", [float(i), 1.0, 2.0]) for i in range(8)])
    assert plane.parties == [8]
    assert [json.loads(a.partition(b"\r\n\r\n")[2])["instances"][0]["y"] for a in answers] == [
        [i + 1.0, 0.5] for i in range(8)
    ]
    assert plane.released >= 1


@pytest.mark.parametrize("field", ["x-request-id: abc", "x-request-timeout-ms: 500"])
async def test_call_that_says_something_of_itself_goes_alone(pool: Executor, field: str) -> None:
    plane = RowsPlane()
    clients = Clients(plane, pool, 4)
    body = b'{"instances": [{"x": [1, 2, 3]}]}'
    await clients.learn(http("/predict", body, field))
    await clients.say([http("/predict", body, field)] * 4)
    assert plane.parties == []


@pytest.mark.parametrize("reason", ["full", "unwilling"])
async def test_calls_that_are_not_taken_together_go_alone(pool: Executor, reason: str) -> None:
    plane = RowsPlane()
    clients = Clients(plane, pool, 3)
    await clients.learn(call(V2, LIKE))
    setattr(plane, reason, True)
    plane.requests.clear()
    answers = await clients.say([call(V2, LIKE)] * 3)
    assert len(plane.requests) == 3
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)


async def test_client_who_leaves_is_withdrawn_and_the_others_are_answered(pool: Executor) -> None:
    plane = RowsPlane()
    clients = Clients(plane, pool, 4)
    await clients.learn(call("/predict", LIKE))
    for wire, connection in zip(clients.wires, clients.connections, strict=True):
        wire.data = b""
        connection.data_received(call("/predict", LIKE))
    clients.connections[0].connection_lost(None)  # before they have gone
    plane.parties.clear()
    await asyncio.sleep(0)
    assert plane.parties == [3]
    clients.connections[2].connection_lost(None)
    assert plane.left == [1]
    async with asyncio.timeout(10):
        while not (clients.wires[1].data and clients.wires[3].data):
            await asyncio.sleep(0)
    assert clients.wires[0].data == clients.wires[2].data == b""


async def test_new_version_is_not_answered_with_the_form_of_the_old_one(pool: Executor) -> None:
    plane = RowsPlane()
    clients = Clients(plane, pool, 3)
    await clients.learn(call("/predict", LIKE))
    plane._known["m"][""] = newer = describe_as(*_specs(KNOWN), name="m")
    plane.parties.clear()
    plane.requests.clear()
    await clients.say([call("/predict", LIKE)] * 3)
    assert plane.parties == []
    assert len(plane.requests) == 3
    await clients.learn(call("/predict", LIKE))
    assert plane.parties
    assert plane.describe("m") is newer


def _specs(known: Any) -> tuple[Any, Any]:
    return known.signature.inputs, known.signature.outputs


async def test_second_request_of_a_connection_waits_for_the_first(pool: Executor) -> None:
    plane = RowsPlane()
    clients = Clients(plane, pool, 2)
    await clients.learn(call("/predict", LIKE))
    first, second = call("/predict", [1.0, 1.0, 1.0]), call("/predict", [2.0, 2.0, 2.0])
    for connection, wire in zip(clients.connections, clients.wires, strict=True):
        wire.data = b""
        connection.data_received(first)
        connection.data_received(second)
    async with asyncio.timeout(10):
        while any(wire.data.count(b"HTTP/1.1 200") < 2 for wire in clients.wires):
            await asyncio.sleep(0)
    for wire in clients.wires:
        assert wire.data.index(b"[2.0,1.0]") < wire.data.index(b"[4.0,1.0]")


async def test_lone_caller_does_not_wait_for_others(pool: Executor) -> None:
    plane = RowsPlane()
    clients = Clients(plane, pool, 1)
    request = call("/predict", LIKE)
    for _ in range(4):
        await clients.say([request])
    plane.requests.clear()
    clients.connections[0].data_received(request)
    assert len(plane.requests) == 1, "it was claimed at once"
