"""The gRPC front end over real connections, on a data plane without processes."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import grpc
import numpy as np
import pytest
import uvloop

from serving.errors import ConfigError, ExecutionFailed, Overloaded
from serving.frontends.grpc import v2_codec
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.request import InferRequest, InferResponse
from serving.tensor import BYTES, FP32, Tensor
from tests.doubles.plane import StubClaim, StubPlane

from .running import WAIT_S, channel, front_end, infer, unary, until
from .served import echo, raw_request

ONES = np.ones((2, 3), np.float32)


class HeldPlane(StubPlane):
    """Answers only when told to; keeps the claims."""

    def __init__(self, *descriptions: Any) -> None:
        super().__init__(*descriptions)
        self.claims: list[StubClaim] = []

    def commit(self, claim: StubClaim) -> None:
        self.claims.append(claim)

    def answer(self) -> None:
        for claim in self.claims:
            super().commit(claim)


async def failure(call: grpc.aio.UnaryUnaryCall) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return failed.value


async def test_infer_answers_and_releases() -> None:
    plane = StubPlane(echo("m", FP32))
    async with front_end(plane) as front, channel(front.port) as opened:
        message = raw_request("m", ("FP32", ONES))
        message.id = "id-1"
        answer = await infer(opened, message)
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "3", "id-1")
    assert list(answer.raw_output_contents) == [ONES.tobytes()]
    assert (plane.released, plane.abandoned) == (1, 0)


async def test_typed_requests_are_answered_raw() -> None:
    message = pb.ModelInferRequest(model_name="m")
    tensor = message.inputs.add(name="x0", datatype="FP32", shape=[2])
    tensor.contents.fp32_contents.extend([1.5, -2.0])
    async with front_end(StubPlane(echo("m", FP32))) as front, channel(front.port) as opened:
        answer = await infer(opened, message)
    assert list(answer.raw_output_contents) == [np.array([1.5, -2.0], "<f4").tobytes()]
    assert not answer.outputs[0].HasField("contents")


@pytest.mark.parametrize("size", [10, 200_000])
async def test_strings_few_and_many_come_back(size: int) -> None:
    items = [b"%d" % i for i in range(size)]
    plane = StubPlane(echo("m", BYTES))
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="x0", datatype="BYTES", shape=[size])
    raw = b"".join(len(item).to_bytes(4, "little") + item for item in items)
    message.raw_input_contents.append(raw)
    async with front_end(plane) as front, channel(front.port) as opened:
        answer = await infer(opened, message)
        await until(lambda: plane.released == 1)
    assert list(answer.raw_output_contents) == [raw]
    assert plane.requests[0].inputs[0].items == items


async def test_many_strings_are_read_and_written_off_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: dict[str, threading.Thread] = {}

    def watched(name: str) -> Any:
        original = getattr(v2_codec, name)

        def call(*args: Any, **named: Any) -> Any:
            threads[name] = threading.current_thread()
            return original(*args, **named)

        return call

    for name in ("decode", "encode"):
        monkeypatch.setattr(v2_codec, name, watched(name))
    async with front_end(StubPlane(echo("m", BYTES))) as front, channel(front.port) as opened:
        for size, apart in ((4, False), (v2_codec.HEAVY_BYTES, True)):
            message = pb.ModelInferRequest(model_name="m", raw_input_contents=[bytes(4 * size)])
            message.inputs.add(name="x0", datatype="BYTES", shape=[size])
            await infer(opened, message)
            for name in ("decode", "encode"):
                assert (threads[name] is not threading.main_thread()) is apart


async def test_call_deadline_and_request_id_reach_the_data_plane() -> None:
    plane = StubPlane(echo("m", FP32))
    message = raw_request("m", ("FP32", ONES))
    async with front_end(plane) as front, channel(front.port) as opened:
        before = time.monotonic()
        answer = await infer(opened, message, timeout=15, metadata=(("x-request-id", "r-9"),))
        after = time.monotonic()
        stub = opened.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        await stub(message.SerializeToString())
    (timed, untimed) = plane.requests
    assert timed.deadline is not None
    assert before + 14 < timed.deadline < after + 15.1
    assert untimed.deadline is None
    assert (timed.id, untimed.id, answer.id) == ("r-9", "", "r-9")


async def test_errors_keep_code_text_and_word() -> None:
    def fail(_request: InferRequest) -> tuple[Tensor, ...]:
        raise Overloaded("the queue is full", code="queue_full", retry_after_s=0.5)

    plane = StubPlane(echo("m", FP32), model=fail)
    async with front_end(plane) as front, channel(front.port) as opened:
        error = await failure(infer(opened, raw_request("m", ("FP32", ONES))))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "the queue is full"
    trailers = dict(error.trailing_metadata())
    assert trailers["error-code"] == "queue_full"
    assert trailers["grpc-retry-pushback-ms"] == "500"


async def test_refused_requests_name_the_fault() -> None:
    plane = StubPlane(echo("resnet", FP32))
    async with front_end(plane) as front, channel(front.port) as opened:
        unknown = await failure(infer(opened, raw_request("resnett", ("FP32", ONES))))
        version = raw_request("resnet", ("FP32", ONES))
        version.model_version = "one"
        bad_version = await failure(infer(opened, version))
        wrong = raw_request("resnet", ("FP32", ONES))
        wrong.inputs[0].shape[0] = 5
        bad_size = await failure(infer(opened, wrong))
        garbage = await failure(infer(opened, b"\xff\xff\xff"))
    assert unknown.code() is grpc.StatusCode.NOT_FOUND
    assert "did you mean 'resnet'?" in unknown.details()
    assert bad_version.code() is grpc.StatusCode.NOT_FOUND
    assert bad_size.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(bad_size.trailing_metadata())["error-where"] == "inputs.x0"
    assert garbage.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert plane.requests == []


async def test_faults_of_the_server_say_nothing_of_its_inside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_request: InferRequest) -> tuple[Tensor, ...]:
        raise RuntimeError("/secret/path")

    plane = StubPlane(echo("m", FP32), model=fail)
    async with front_end(plane) as front, channel(front.port) as opened:
        error = await failure(infer(opened, raw_request("m", ("FP32", ONES))))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in error.details()
    assert "/secret/path" in caplog.text


async def test_rows_are_released_when_the_answer_cannot_be_written() -> None:
    unwritable = Tensor("x0", FP32, (-(2**70),), ONES)
    plane = StubPlane(echo("m", FP32), model=lambda request: (unwritable,))
    async with front_end(plane) as front, channel(front.port) as opened:
        error = await failure(infer(opened, raw_request("m", ("FP32", ONES))))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert plane.released == 1


async def test_long_error_texts_reach_the_client() -> None:
    def fail(_request: InferRequest) -> tuple[Tensor, ...]:
        raise ExecutionFailed("漢" * 100_000)

    plane = StubPlane(echo("m", FP32), model=fail)
    async with front_end(plane) as front, channel(front.port) as opened:
        error = await failure(infer(opened, raw_request("m", ("FP32", ONES))))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details().startswith("漢漢漢")


async def test_a_cancelled_call_is_abandoned() -> None:
    plane = HeldPlane(echo("m", FP32))
    async with front_end(plane) as front, channel(front.port) as opened:
        call = infer(opened, raw_request("m", ("FP32", ONES)))
        await until(lambda: len(plane.claims) == 1)
        call.cancel()
        await until(lambda: plane.abandoned == 1)
        assert plane.claims[0].answer.cancelled()


async def test_a_call_past_its_deadline_is_abandoned() -> None:
    plane = HeldPlane(echo("m", FP32))
    async with front_end(plane) as front, channel(front.port) as opened:
        await unary(opened, "ServerLive", b"", pb.ServerLiveResponse)  # it is connected
        error = await failure(infer(opened, raw_request("m", ("FP32", ONES)), timeout=0.5))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: plane.abandoned == 1)


@pytest.mark.parametrize("grpc_engine", ["grpcio"], indirect=True)  # the lane has no task
async def test_an_answer_that_crosses_the_cancellation_is_released() -> None:
    class CrossingPlane(HeldPlane):
        """Its answer is there, and the call is cancelled before it can look."""

        def commit(self, claim: StubClaim) -> None:
            task = asyncio.current_task()
            assert task is not None

            def cross() -> None:
                StubPlane.commit(self, claim)
                task.cancel()

            asyncio.get_running_loop().call_soon(cross)

        def abandon(self, claim: StubClaim) -> None:
            self.abandoned += 1

    plane = CrossingPlane(echo("m", FP32))
    async with front_end(plane) as front, channel(front.port) as opened:
        call = infer(opened, raw_request("m", ("FP32", ONES)))
        await until(lambda: plane.released == 1)
        call.cancel()
    assert plane.abandoned == 1


async def test_an_answer_that_the_plane_withdraws_is_cancelled() -> None:
    class WithdrawingPlane(StubPlane):
        def commit(self, claim: StubClaim) -> None:
            claim.answer.cancel()

    async with (
        front_end(WithdrawingPlane(echo("m", FP32))) as front,
        channel(front.port) as opened,
    ):
        error = await failure(infer(opened, raw_request("m", ("FP32", ONES))))
    assert error.code() is grpc.StatusCode.CANCELLED
    assert dict(error.trailing_metadata())["error-code"] == "cancelled"


async def test_rows_outlive_the_thread_that_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()
    encode = v2_codec.encode

    def slow(model: str, response: InferResponse) -> bytes:
        begun.set()
        assert go.wait(WAIT_S)
        return encode(model, response)

    monkeypatch.setattr(v2_codec, "encode", slow)
    items = [b""] * v2_codec.HEAVY_BYTES
    plane = StubPlane(
        echo("m", FP32), model=lambda _: (Tensor("x0", BYTES, (len(items),), items=items),)
    )
    async with front_end(plane) as front, channel(front.port) as opened:
        call = infer(opened, raw_request("m", ("FP32", ONES)))
        await until(begun.is_set)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await unary(opened, "ServerLive", b"", pb.ServerLiveResponse)
        assert plane.released == 0
        go.set()
        await until(lambda: plane.released == 1)


async def test_messages_over_the_limit_are_refused_and_those_under_it_are_not() -> None:
    plane = StubPlane(echo("m", FP32))
    async with front_end(plane, max_request_mb=5) as front, channel(front.port) as opened:
        large = raw_request("m", ("FP32", np.zeros((5 << 20) // 4 - 100, np.float32)))
        assert (await infer(opened, large)).raw_output_contents[0] == large.raw_input_contents[0]
        larger = raw_request("m", ("FP32", np.zeros((5 << 20) // 4, np.float32)))
        error = await failure(infer(opened, larger))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(plane.requests) == 1


async def test_readiness_and_liveness_are_the_planes() -> None:
    plane = StubPlane(echo("m", FP32), echo("warming", FP32, ready=False))
    async with front_end(plane) as front, channel(front.port) as opened:

        async def model_ready(name: str, version: str = "") -> bool:
            message = pb.ModelReadyRequest(name=name, version=version)
            return bool((await unary(opened, "ModelReady", message, pb.ModelReadyResponse)).ready)

        assert (await unary(opened, "ServerLive", b"", pb.ServerLiveResponse)).live
        assert (await unary(opened, "ServerReady", b"", pb.ServerReadyResponse)).ready
        plane.is_ready = False
        assert not (await unary(opened, "ServerReady", b"", pb.ServerReadyResponse)).ready
        assert await model_ready("m")
        assert await model_ready("m", "3")
        assert not await model_ready("m", "4")
        assert not await model_ready("m", "latest")
        assert not await model_ready("warming")
        assert not await model_ready("unknown")


async def test_metadata_names_server_and_signature() -> None:
    async with front_end(StubPlane(echo("m", FP32))) as front, channel(front.port) as opened:
        server = await unary(opened, "ServerMetadata", b"", pb.ServerMetadataResponse)
        asked = pb.ModelMetadataRequest(name="m")
        model = await unary(opened, "ModelMetadata", asked, pb.ModelMetadataResponse)
        asked.version = "9"
        error = await failure(unary(opened, "ModelMetadata", asked, pb.ModelMetadataResponse))
    assert server.name == "serving"
    assert server.version
    assert "parameters" in server.extensions
    assert (model.name, list(model.versions), model.inputs[0].datatype) == ("m", ["3"], "FP32")
    assert error.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("method", ["LogSettings", "CudaSharedMemoryStatus", "TraceSetting"])
async def test_calls_that_are_not_offered_are_unimplemented(method: str) -> None:
    async with front_end(StubPlane(echo("m", FP32))) as front, channel(front.port) as opened:
        error = await failure(unary(opened, method, b"", pb.ServerLiveResponse))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_taken_port_is_a_configuration_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as refused:
            async with front_end(StubPlane(), grpc_port=port):
                pass
    assert refused.value.where == "--grpc-port"
    assert str(port) in str(refused.value)


async def test_two_front_ends_never_share_a_port() -> None:
    async with front_end(StubPlane()) as front:
        with pytest.raises(ConfigError):
            async with front_end(StubPlane(), grpc_port=front.port):
                pass


async def test_drain_lets_running_calls_end_and_takes_no_new_ones() -> None:
    plane = HeldPlane(echo("m", FP32))
    message = raw_request("m", ("FP32", ONES))
    async with front_end(plane) as front, channel(front.port) as opened:
        running = infer(opened, message)
        await until(lambda: len(plane.claims) == 1)
        draining = asyncio.ensure_future(front.drain(WAIT_S))
        late = await failure(infer(opened, message))
        assert late.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(late.trailing_metadata())["error-code"] == "draining"
        assert not draining.done()
        plane.answer()
        assert (await running).raw_output_contents[0] == ONES.tobytes()
        await asyncio.wait_for(draining, WAIT_S)
        closed = await failure(infer(opened, message))
        assert closed.code() is grpc.StatusCode.UNAVAILABLE
    assert (len(plane.claims), plane.released, plane.abandoned) == (1, 1, 0)


async def test_calls_that_cross_a_drain_are_answered_or_told_to_go_elsewhere() -> None:
    plane = StubPlane(echo("m", FP32))
    message = raw_request("m", ("FP32", ONES))
    async with front_end(plane) as front, channel(front.port) as opened:
        await infer(opened, message)
        calls = [asyncio.ensure_future(infer(opened, message)) for _ in range(30)]
        await until(lambda: plane.released > 1)
        draining = asyncio.ensure_future(front.drain(WAIT_S))
        ends = await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.wait_for(draining, WAIT_S)
    refused = [end for end in ends if isinstance(end, BaseException)]
    assert all(
        isinstance(end, grpc.aio.AioRpcError) and end.code() is grpc.StatusCode.UNAVAILABLE
        for end in refused
    )
    assert len(ends) - len(refused) == plane.released - 1


async def test_drain_cancels_what_is_left_at_its_deadline() -> None:
    plane = HeldPlane(echo("m", FP32))
    async with front_end(plane) as front, channel(front.port) as opened:
        running = infer(opened, raw_request("m", ("FP32", ONES)))
        await until(lambda: len(plane.claims) == 1)
        await asyncio.wait_for(front.drain(0.1), WAIT_S)
        await failure(running)
        await until(lambda: plane.abandoned == 1)


async def test_stop_may_be_repeated_and_the_port_is_free_again() -> None:
    async with front_end(StubPlane()) as front:
        port = front.port
        await front.stop()
        await front.stop()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


def test_the_front_end_runs_on_uvloop() -> None:
    async def serve() -> bytes:
        async with front_end(StubPlane(echo("m", FP32))) as front, channel(front.port) as opened:
            answer = await infer(opened, raw_request("m", ("FP32", ONES)))
            await front.drain(WAIT_S)
            return bytes(answer.raw_output_contents[0])

    assert uvloop.run(serve()) == ONES.tobytes()
