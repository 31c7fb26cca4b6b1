"""MindSpore Serving's call on a real port, over a data plane without processes."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import grpc
import numpy as np
import pytest

from serving.errors import DeadlineExceeded, ExecutionFailed, Overloaded
from serving.frontends.grpc.ms_service import NAME
from serving.frontends.grpc.stubs import ms_service_pb2 as pb
from serving.request import InferRequest
from serving.tensor import Tensor
from tests.contract.rest.running import ECHO, HeldPlane, RefusingPlane
from tests.doubles.plane import StubPlane
from tests.unit.frontends.grpc.running import WAIT_S, channel, front_end, until


def request(instances: int = 1, size: int = 2) -> pb.PredictRequest:
    message = pb.PredictRequest(servable_spec=pb.ServableSpec(name="echo", method_name="predict"))
    for _ in range(instances):
        tensor = message.instances.add().items["x"]
        tensor.shape.dims.append(size)
        tensor.dtype = pb.MS_FLOAT32
        tensor.data = np.arange(size, dtype="<f4").tobytes()
    return message


def predict(
    opened: grpc.aio.Channel, message: pb.PredictRequest, timeout: float = WAIT_S
) -> grpc.aio.UnaryUnaryCall:
    call = opened.unary_unary(
        f"/{NAME}/Predict",
        request_serializer=pb.PredictRequest.SerializeToString,
        response_deserializer=pb.PredictReply.FromString,
    )
    return call(message, timeout=timeout)


@pytest.mark.parametrize("instances", [1, 3, 5000], ids=["one", "few", "on a thread"])
async def test_every_instance_is_a_request_and_is_released(instances: int) -> None:
    plane = StubPlane(ECHO)
    async with front_end(plane) as front, channel(front.port) as opened:
        reply = await predict(opened, request(instances))
    assert not reply.error_msg
    assert [dict(i.items)["x"].data for i in reply.instances] == [
        np.arange(2, dtype="<f4").tobytes()
    ] * instances
    assert {t.shape for r in plane.requests for t in r.inputs} == {(1, 2)}
    assert plane.released == len(plane.requests) == instances


async def test_a_full_queue_is_told_in_the_reply() -> None:
    plane = RefusingPlane(2, Overloaded("full", code="queue_full", limit=2))
    async with front_end(plane) as front, channel(front.port) as opened:
        reply = await predict(opened, request(3))
    (error,) = reply.error_msg
    assert (error.error_code, error.error_msg.decode()) == (
        1,
        "Serving Error: enqueued requests count exceeds the limit 2",
    )
    assert plane.abandoned == 2


async def test_a_client_that_leaves_withdraws_its_instances() -> None:
    plane = HeldPlane(ECHO)
    async with front_end(plane) as front, channel(front.port) as opened:
        call = predict(opened, request(3))
        await asyncio.wait_for(until(lambda: len(plane.held) == 3), WAIT_S)
        call.cancel()
        await until(lambda: plane.abandoned == 3)


async def test_a_call_s_deadline_is_that_of_its_requests() -> None:
    plane = StubPlane(ECHO)
    async with front_end(plane) as front, channel(front.port) as opened:
        await predict(opened, request(2), timeout=15.0)
    assert all(r.deadline is not None for r in plane.requests)


async def test_a_deadline_that_passes_at_the_server_is_told_in_the_reply() -> None:
    plane = RefusingPlane(0, DeadlineExceeded("too late"))
    async with front_end(plane) as front, channel(front.port) as opened:
        reply = await predict(opened, request())
    assert [(e.error_code, e.error_msg) for e in reply.error_msg] == [(1, b"too late")]


async def test_a_server_that_goes_down_says_so_by_status() -> None:
    plane = HeldPlane(ECHO)
    async with front_end(plane) as front, channel(front.port) as opened:
        held = predict(opened, request())
        await until(lambda: bool(plane.held))
        drained = asyncio.ensure_future(front.drain(WAIT_S))
        await asyncio.sleep(0)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await predict(opened, request())
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        plane.answer_all()
        assert len((await held).instances) == 1
        await drained


async def test_a_fault_of_the_server_is_a_status_without_its_text() -> None:
    class Broken(StubPlane):
        def describe(
            self, servable: str | None, version: int | None = None, method: str | None = None
        ) -> object:  # type: ignore[override]
            raise ValueError("inner matters")

    async with front_end(Broken(ECHO)) as front, channel(front.port) as opened:  # type: ignore[arg-type]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await predict(opened, request())
    assert refused.value.code() is grpc.StatusCode.INTERNAL
    assert "inner matters" not in str(refused.value.details())


async def test_messages_that_are_alike_are_answered_with_their_own_numbers() -> None:
    plane = StubPlane(ECHO)
    async with front_end(plane) as front, channel(front.port) as opened:
        for value in range(5):
            message = request(2)
            for place, instance in enumerate(message.instances):
                instance.items["x"].data = np.full(2, value + place / 2, "<f4").tobytes()
            reply = await predict(opened, message)
            assert reply.servable_spec == message.servable_spec
            assert [i.items["x"] for i in reply.instances] == [
                i.items["x"] for i in message.instances
            ]
            assert {request.id for request in plane.requests} == {""}
    assert plane.released == 10


async def test_messages_that_are_alike_have_their_own_deadlines_and_errors() -> None:
    def model(request: InferRequest) -> tuple[Tensor, ...]:
        if len(seen) == 3:
            raise ExecutionFailed("that one")
        return request.inputs

    seen: list[InferRequest] = []
    plane = StubPlane(ECHO, model=lambda asked: (seen.append(asked), model(asked))[1])
    async with front_end(plane) as front, channel(front.port) as opened:
        replies = [await predict(opened, request(), timeout=WAIT_S + n) for n in range(4)]
        refused = await predict(opened, request(), timeout=WAIT_S)
    deadlines = [asked.deadline for asked in plane.requests]
    assert all(late and early and late > early for early, late in pairwise(deadlines[:4]))
    assert [len(reply.error_msg) for reply in (*replies, refused)] == [0, 0, 1, 0, 0]
    assert replies[2].error_msg[0].error_msg == b"that one"
