"""Calls that one read brings go together, and each is answered as if it had come alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from serving.dataplane import TakesRows
from serving.errors import ExecutionFailed, Overloaded
from serving.frontends.grpc.ms_service import NAME
from serving.frontends.grpc.stubs import inference_v2_pb2 as v2
from serving.frontends.grpc.stubs import ms_service_pb2 as ms
from serving.frontends.rows import rows_of
from serving.request import InferRequest, InferResponse, RowsListener
from tests.contract.rest.running import ECHO
from tests.doubles.plane import StubPlane
from tests.unit.frontends.grpc.running import until
from tests.unit.frontends.grpc_lane import raw
from tests.unit.frontends.grpc_lane.raw import DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM
from tests.unit.frontends.grpc_lane.running import lane

PREDICT = f"/{NAME}/Predict"
SECOND_FAILS = "this one"


class RowsPlane(StubPlane):
    """Echoes rows that came together, by twos; those that hold ``bad`` fail."""

    def __init__(self) -> None:
        super().__init__(ECHO, model=self._model)
        self.parties: list[InferRequest] = []
        self.left: list[int] = []
        self.bad: float | None = None
        self.unwilling = self.full = self.held = False

    def take_rows(self, request: InferRequest, unit: int, listener: RowsListener) -> object | None:
        if self.full:
            raise Overloaded("full", code="queue_full", limit=7)
        if self.unwilling:
            return None
        self.parties.append(request)
        if not self.held:
            asyncio.get_running_loop().call_soon(self._tell, request, unit, listener)
        return self

    def abandon_row(self, claim: object, caller: int) -> None:
        assert claim is self
        self.left.append(caller)

    def _model(self, request: InferRequest) -> tuple[object, ...]:
        array = request.inputs[0].array
        assert array is not None
        if self.bad is not None and self.bad in array:
            raise ExecutionFailed(SECOND_FAILS)
        return request.inputs

    def _tell(self, request: InferRequest, unit: int, listener: RowsListener) -> None:
        whole = InferResponse("echo", 1, "", request.inputs)
        callers, left = divmod(request.inputs[0].shape[0], unit)
        assert not left
        for at in range(callers):
            one = rows_of(whole, at, unit).outputs
            array = one[0].array
            assert array is not None
            if self.bad is not None and self.bad in array:
                listener(at, 1, ExecutionFailed(SECOND_FAILS))
            else:
                listener(at, 1, InferResponse("echo", 1, "", one, self._count_release))


def infer(value: float, rows: int = 1) -> tuple[str, bytes]:
    array = np.array([[value, value + 1]], "<f4") + np.arange(rows, dtype="<f4")[:, None]
    message = v2.ModelInferRequest(model_name="echo", raw_input_contents=[array.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=(rows, 2))
    return raw.INFER, message.SerializeToString()


def infer_three(value: float) -> tuple[str, bytes]:
    return infer(value, 3)


def predict(value: float) -> tuple[str, bytes]:
    message = ms.PredictRequest(servable_spec=ms.ServableSpec(name="echo", method_name="predict"))
    tensor = message.instances.add().items["x"]
    tensor.shape.dims.append(2)
    tensor.dtype = ms.MS_FLOAT32
    tensor.data = np.array([value, value + 1], "<f4").tobytes()
    return PREDICT, message.SerializeToString(deterministic=True)


Make = Callable[[float], tuple[str, bytes]]
both = pytest.mark.parametrize("make", [infer, predict], ids=["v2", "mindspore"])


def call(client: raw.RawClient, stream: int, made: tuple[str, bytes], **more: str) -> bytes:
    path, data = made
    extra = [(name.replace("_", "-"), value) for name, value in more.items()]
    block = client.block(raw.fields(path, *extra))
    return raw.frame(HEADERS, END_HEADERS, stream, block) + raw.frame(
        DATA, END_STREAM, stream, raw.message(data)
    )


async def answers(client: raw.RawClient, *streams: int) -> list[raw.Answer]:
    """Collect these streams until all of them have ended, in whatever order."""
    told: dict[int, dict[str, str]] = {stream: {} for stream in streams}
    data = dict.fromkeys(streams, b"")
    left = set(streams)
    while left:
        found = await client.next()
        assert found is not None
        if found.kind == HEADERS:
            told[found.stream].update(client.decoder.decode(found.payload))
        elif found.kind == DATA:
            data[found.stream] += found.payload
        if found.kind in (HEADERS, DATA) and found.flags & END_STREAM:
            left.discard(found.stream)
    return [raw.Answer(told[stream], data[stream], None) for stream in streams]


async def taught(client: raw.RawClient, make: Make, first: int = 1) -> int:
    """Let the server learn the form, one call after the other; return the next stream."""
    for stream in (first, first + 2, first + 4):
        client.send(call(client, stream, make(0.5)))
        (answer,) = await answers(client, stream)
        assert answer.fields["grpc-status"] == "0"
    return first + 6


async def in_company(client: raw.RawClient, make: Make, plane: RowsPlane) -> int:
    """Let the server learn that calls come together, too."""
    stream = await taught(client, make)
    await together(client, stream, make, 1.0, 2.0, 3.0)
    assert not plane.parties
    return stream + 2


async def together(
    client: raw.RawClient, first: int, make: Make, *values: float
) -> list[raw.Answer]:
    streams = range(first, first + 2 * len(values), 2)
    client.send(*[call(client, s, make(v)) for s, v in zip(streams, values, strict=True)])
    return await answers(client, *streams)


def test_plane_of_these_tests_takes_rows() -> None:
    assert isinstance(RowsPlane(), TakesRows)


@both
async def test_calls_of_one_form_go_together_and_have_their_own_numbers(make: Make) -> None:
    plane = RowsPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        stream = await taught(client, make)
        found = await together(client, stream, make, 1.0, 2.0, 3.0, 4.0)
        # The first of them could not know that others would come, nor the second that there are.
        assert [r.inputs[0].array.tolist() for r in plane.parties] == [[[3, 4], [4, 5]]]
        assert len(plane.requests) == 5
        again = await together(client, stream + 8, make, 5.0, 6.0)
        assert [len(r.inputs[0].array) for r in plane.parties] == [2, 2]
    alone = StubPlane(ECHO)
    async with lane(alone) as front, raw.connection(front.port) as client:
        for stream, value in zip(range(1, 13, 2), (1.0, 2.0, 3.0, 4.0, 5.0, 6.0), strict=True):
            client.send(call(client, stream, make(value)))
            assert (await answers(client, stream))[0] == [*found, *again][stream // 2]
    assert plane.released == 5 + 2 + 2


async def test_calls_of_several_rows_go_with_those_of_as_many() -> None:
    plane = RowsPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        await in_company(client, infer, plane)
        await taught(client, infer_three, 51)
        made = [infer(1.0), infer(2.0, 3), infer(5.0, 3), infer(8.0)]
        streams = range(101, 109, 2)
        client.send(*[call(client, s, m) for s, m in zip(streams, made, strict=True)])
        found = await answers(client, *streams)
        parties = [r.inputs[0].array.tolist() for r in plane.parties]
        assert sorted(parties) == [
            [[1, 2], [8, 9]],
            [[2, 3], [3, 4], [4, 5], [5, 6], [6, 7], [7, 8]],
        ]
    alone = StubPlane(ECHO)
    async with lane(alone) as front, raw.connection(front.port) as client:
        for stream, one in enumerate(made):
            client.send(call(client, 2 * stream + 1, one))
            assert (await answers(client, 2 * stream + 1))[0] == found[stream]


async def test_failure_of_one_of_several_rows_is_told_to_that_one_alone() -> None:
    plane = RowsPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        stream = await in_company(client, infer_three, plane)
        plane.bad = 6.0
        good, bad = await together(client, stream + 4, infer_three, 8.0, 4.0)
        assert len(plane.parties) == 1
    assert (good.fields["grpc-status"], SECOND_FAILS in bad.fields["grpc-message"]) == ("0", True)
    array = np.array([[8, 9], [9, 10], [10, 11]], "<f4")
    assert array.tobytes() in good.data


@both
async def test_failure_of_one_is_told_to_that_one_alone(make: Make) -> None:
    plane = RowsPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        stream = await in_company(client, make, plane)
        plane.bad = 4.0
        good, bad = await together(client, stream + 4, make, 8.0, 4.0)
        assert len(plane.parties) == 1
        client.send(call(client, stream + 8, make(4.0)))
        (alone,) = await answers(client, stream + 8)
    assert bad == alone
    assert good.fields["grpc-status"] == "0"
    assert np.array([8.0, 9.0], "<f4").tobytes() in good.data
    assert [code for _, code in plane.errors] == ["execution_failed"] * 2


@both
async def test_call_with_a_deadline_or_an_id_of_its_own_goes_alone(make: Make) -> None:
    plane = RowsPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        stream = await in_company(client, make, plane)
        before = len(plane.requests)
        client.send(
            call(client, stream + 4, make(1.0), grpc_timeout="9S"),
            call(client, stream + 6, make(2.0), x_request_id="mine"),
        )
        found = await answers(client, stream + 4, stream + 6)
    assert not plane.parties
    first, second = plane.requests[before:]
    assert first.deadline is not None
    assert (second.id, second.deadline) == ("mine", None)
    assert all(answer.fields["grpc-status"] == "0" for answer in found)


@both
async def test_calls_that_cannot_go_together_go_one_by_one(make: Make) -> None:
    plane = RowsPlane()
    plane.unwilling = True
    async with lane(plane) as front, raw.connection(front.port) as client:
        stream = await taught(client, make)
        found = await together(client, stream, make, 1.0, 2.0, 3.0, 4.0)
        plane.unwilling, plane.full = False, True
        found += await together(client, stream + 8, make, 1.0, 2.0, 3.0)
    assert all(answer.fields["grpc-status"] == "0" for answer in found)
    assert len(plane.requests) == 3 + 7


@both
async def test_caller_who_leaves_is_withdrawn_alone(make: Make) -> None:
    plane = RowsPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        stream = await in_company(client, make, plane)
        plane.held = True
        first = stream + 4
        client.send(*[call(client, s, make(1.0)) for s in (first, first + 2, first + 4)])
        await until(lambda: len(plane.parties) == 1)
        client.send(raw.frame(RST_STREAM, 0, first + 2, b"\0\0\0\x08"))
        await until(lambda: plane.left == [1])
    await until(lambda: sorted(plane.left) == [0, 1, 2])  # the connection has gone


@both
async def test_caller_who_leaves_before_the_turn_ends_is_not_claimed(make: Make) -> None:
    plane = RowsPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        stream = await in_company(client, make, plane)
        first = stream + 4
        client.send(
            call(client, first, make(1.0)),
            call(client, first + 2, make(2.0)),
            raw.frame(RST_STREAM, 0, first, b"\0\0\0\x08"),
            call(client, first + 4, make(3.0)),
        )
        found = await answers(client, first + 2, first + 4)
    assert [r.inputs[0].array.tolist() for r in plane.parties] == [[[2, 3], [3, 4]]]
    assert all(answer.fields["grpc-status"] == "0" for answer in found)
    assert not plane.left


@both
async def test_drain_waits_for_those_that_wait_for_others(make: Make) -> None:
    plane = RowsPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        stream = await in_company(client, make, plane)
        plane.held = True
        client.send(*[call(client, s, make(1.0)) for s in (stream + 4, stream + 6)])
        await until(lambda: len(plane.parties) == 1)
        inference = front._inference
        assert inference is not None
        assert inference.under_way == 2
    await until(lambda: inference.under_way == 0)
