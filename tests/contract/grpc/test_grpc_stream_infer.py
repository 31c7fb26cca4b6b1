"""Many requests on one call: run side by side, answered in order, each by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest

from serving.errors import ExecutionFailed
from serving.frontends.grpc import stream_infer
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.request import InferRequest
from serving.tensor import FP32, Tensor
from tests.contract.grpc.conftest import Serving
from tests.doubles.plane import StubClaim, StubPlane
from tests.unit.frontends.grpc.running import WAIT_S, channel, until
from tests.unit.frontends.grpc.served import echo, raw_request

FINAL = "triton_final_response"


class HeldPlane(StubPlane):
    """Keeps the claims in order, until one is answered."""

    def __init__(self) -> None:
        super().__init__(echo("m", FP32), model=_echo)
        self.claims: list[StubClaim] = []

    def commit(self, claim: StubClaim) -> None:
        self.claims.append(claim)

    def answer(self, number: int) -> None:
        super().commit(self.claims[number])


def _echo(request: InferRequest) -> tuple[Tensor, ...]:
    (tensor,) = request.inputs
    assert tensor.array is not None
    if (tensor.array == -1.0).any():
        raise ExecutionFailed("no such number", where="inputs.x0")
    return request.inputs


def asked(number: float, size: int = 3) -> pb.ModelInferRequest:
    message = raw_request("m", ("FP32", np.full(size, number, np.float32)))
    message.id = f"r-{number:g}"
    return message


def stream(opened: grpc.aio.Channel, **extra: Any) -> grpc.aio.StreamStreamCall:
    stub = opened.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
        response_deserializer=pb.ModelStreamInferResponse.FromString,
    )
    return stub(timeout=extra.pop("timeout", WAIT_S), **extra)


def numbers(answer: pb.ModelStreamInferResponse) -> list[float]:
    assert not answer.error_message
    (raw,) = answer.infer_response.raw_output_contents
    return [float(number) for number in np.frombuffer(raw, np.float32)]


async def rest(call: grpc.aio.StreamStreamCall) -> list[pb.ModelStreamInferResponse]:
    answers = []
    while (answer := await call.read()) is not grpc.aio.EOF:
        answers.append(answer)
    code = await call.code()
    if code is not grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(
            code, await call.initial_metadata(), await call.trailing_metadata()
        )
    return answers


async def test_requests_are_answered_in_their_order(serving: Serving) -> None:
    plane = HeldPlane()
    async with serving(plane) as front, channel(front.port) as opened:
        call = stream(opened)
        for number in range(3):
            await call.write(asked(number))
        await until(lambda: len(plane.claims) == 3)  # side by side: none is answered yet
        plane.answer(2)
        plane.answer(1)
        first = asyncio.ensure_future(call.read())
        await asyncio.sleep(0)
        assert not first.done()
        plane.answer(0)
        told = [await first, await call.read(), await call.read()]
        assert [numbers(answer) for answer in told] == [[0.0] * 3, [1.0] * 3, [2.0] * 3]
        assert [answer.infer_response.id for answer in told] == ["r-0", "r-1", "r-2"]
        assert all(a.infer_response.parameters[FINAL].bool_param for a in told)
        await call.write(asked(3))
        await until(lambda: len(plane.claims) == 4)
        plane.answer(3)
        assert numbers(await call.read()) == [3.0] * 3
        await call.done_writing()
        assert await rest(call) == []
        assert await call.code() is grpc.StatusCode.OK
    assert plane.released == 4


async def test_client_that_has_sent_all_has_all_answers(serving: Serving) -> None:
    async def requests() -> AsyncIterator[pb.ModelInferRequest]:
        for number in range(300):
            yield asked(number + 100.0)

    plane = StubPlane(echo("m", FP32))
    async with serving(plane) as front, channel(front.port) as opened:
        stub = opened.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )
        told = [numbers(answer)[0] async for answer in stub(requests(), timeout=WAIT_S)]
    assert told == [number + 100.0 for number in range(300)]


async def test_request_that_fails_has_its_error_and_the_others_their_answers(
    serving: Serving,
) -> None:
    plane = StubPlane(echo("m", FP32), model=_echo)
    unknown = raw_request("n", ("FP32", np.ones(1, np.float32)))
    async with serving(plane) as front, channel(front.port) as opened:
        call = stream(opened)
        for message in (asked(1.0), asked(-1.0), unknown, b"\xff\xff", asked(2.0)):
            await call.write(message)
        await call.done_writing()
        told = await rest(call)
        assert await call.code() is grpc.StatusCode.OK
    errors = [answer.error_message for answer in told]
    assert errors[0] == errors[4] == ""
    assert errors[1] == "inputs.x0: no such number"
    assert errors[2].startswith("servable 'n' is not served here")
    assert errors[3].startswith("the request is not a valid protobuf message")
    assert [answer.infer_response.id for answer in told] == ["r-1", "r--1", "", "", "r-2"]
    assert (numbers(told[0]), numbers(told[4])) == ([1.0] * 3, [2.0] * 3)
    counted = ["execution_failed", "unknown_servable", "bad_message"]
    assert plane.errors == [("grpc", code) for code in counted]


async def test_parameter_of_tritons_clients_about_empty_answers_is_taken(serving: Serving) -> None:
    message = asked(1.0)
    message.parameters["triton_enable_empty_final_response"].bool_param = True
    wrong = asked(2.0)
    wrong.parameters["triton_enable_empty_final_response"].int64_param = 1
    async with serving(StubPlane(echo("m", FP32))) as front, channel(front.port) as opened:
        call = stream(opened)
        await call.write(message)
        await call.write(wrong)
        await call.done_writing()
        first, second = await rest(call)
    assert numbers(first) == [1.0] * 3
    assert "triton_enable_empty_final_response" in second.error_message


async def test_client_that_leaves_withdraws_what_it_asked(serving: Serving) -> None:
    plane = HeldPlane()
    async with serving(plane) as front, channel(front.port) as opened:
        call = stream(opened)
        for number in range(5):
            await call.write(asked(number))
        await until(lambda: len(plane.claims) == 5)
        call.cancel()
        await until(lambda: plane.abandoned == 5)
        assert front._inference is not None
        inference = front._inference
        await until(lambda: inference.under_way == 0)


async def test_deadline_of_the_call_ends_it(serving: Serving) -> None:
    plane = HeldPlane()
    async with serving(plane) as front, channel(front.port) as opened:
        call = stream(opened, timeout=0.3)
        await call.write(asked(1.0))
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await rest(call)
        assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: plane.abandoned == 1)


@pytest.mark.parametrize(
    ("size", "most"), [(3, stream_infer.MOST), (500_000, stream_infer.MOST_BYTES >> 21)]
)
async def test_so_many_run_at_once_and_fewer_where_answers_are_large(
    serving: Serving, size: int, most: int
) -> None:
    """Nobody else has their memory, and a client may read none of its answers."""
    plane = HeldPlane()
    count = 4 + 2 * most

    async def write(call: grpc.aio.StreamStreamCall) -> None:
        for number in range(count):
            await call.write(asked(number, size))
        await call.done_writing()

    async with serving(plane) as front, channel(front.port) as opened:
        call = stream(opened)
        await call.write(asked(0.5, size))
        await until(lambda: len(plane.claims) == 1)
        plane.answer(0)
        assert numbers(await call.read())[0] == 0.5  # how large the answers are is known now
        writing = asyncio.ensure_future(write(call))
        await until(lambda: len(plane.claims) == 1 + most)
        for number in range(1, 1 + count):
            await until(lambda at=number: len(plane.claims) > at)  # type: ignore[misc]
            assert len(plane.claims) <= number + most
            plane.answer(number)
            assert numbers(await call.read())[0] == number - 1
        await writing
        assert await rest(call) == []


async def test_drain_answers_what_was_asked_and_ends_the_call(serving: Serving) -> None:
    plane = HeldPlane()
    async with serving(plane) as front, channel(front.port) as opened:
        call, idle = stream(opened), stream(opened)
        await call.write(asked(1.0))
        await idle.write(asked(2.0))
        await until(lambda: len(plane.claims) == 2)
        second = 1 if plane.claims[1].request.id == "r-2" else 0
        plane.answer(second)
        assert numbers(await idle.read()) == [2.0] * 3
        draining = asyncio.ensure_future(front.drain(WAIT_S))
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await rest(idle)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(ended.value.trailing_metadata() or ())["error-code"] == "draining"
        assert not draining.done()
        plane.answer(1 - second)
        assert numbers(await call.read()) == [1.0] * 3
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        await asyncio.wait_for(draining, WAIT_S)
