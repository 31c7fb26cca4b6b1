"""The calls of ``serving.v1`` over real connections, on a data plane without processes."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_reflection.v1alpha import reflection_pb2

from serving.errors import InvalidRequest, NotFound, Overloaded, ServingError, Unavailable
from serving.frontends.grpc import v1_codec
from serving.frontends.grpc.reflection import V1
from serving.request import Description, InferRequest
from serving.tensor import BF16, BYTES, DTYPES, FP32, BatchAxes, Signature, Tensor, TensorSpec
from serving.v1 import ERROR_TRAILER, SERVICE, failure
from serving.v1.stubs import serving_v1_pb2 as pb
from tests.doubles.plane import StubClaim, StubPlane

from .running import WAIT_S, channel, front_end, until
from .served import echo

ONES = np.ones((2, 3), np.float32)


def call(opened: grpc.aio.Channel, method: str, message: Any, **extra: Any) -> Any:
    data = message if isinstance(message, bytes) else message.SerializeToString()
    stub = opened.unary_unary(f"/serving.v1.Serving/{method}")
    return stub(data, timeout=extra.pop("timeout", WAIT_S), **extra)


async def predict(opened: grpc.aio.Channel, message: Any, **extra: Any) -> pb.PredictResponse:
    return pb.PredictResponse.FromString(await call(opened, "Predict", message, **extra))


async def refusal(opened: grpc.aio.Channel, method: str, message: Any) -> ServingError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call(opened, method, message)
    sent = failure.from_bytes(dict(failed.value.trailing_metadata())[ERROR_TRAILER])
    assert sent is not None
    return sent


def request(*inputs: pb.Tensor, **fields: Any) -> pb.PredictRequest:
    return pb.PredictRequest(servable="m", inputs=inputs, **fields)


def ones(**fields: Any) -> pb.Tensor:
    given = {"name": "x0", "dtype": "FP32", "shape": ONES.shape, "data": ONES.tobytes()}
    return pb.Tensor(**{**given, **fields})


@pytest.mark.parametrize("dtype", [d for d in DTYPES if not d.is_bytes], ids=repr)
async def test_numbers_of_every_dtype_come_back_bit_for_bit(dtype: Any) -> None:
    data = bytes(range(2 * dtype.itemsize)) if dtype.name != "BOOL" else b"\1\0"
    plane = StubPlane(echo("m", dtype))
    async with front_end(plane) as front, channel(front.port) as opened:
        sent = request(pb.Tensor(name="x0", dtype=dtype.name, shape=[2, 1], data=data), id="a-1")
        answer = await predict(opened, sent)
    assert (answer.servable, answer.version, answer.id) == ("m", 3, "a-1")
    assert list(answer.outputs) == list(sent.inputs)
    assert plane.released == 1


@pytest.mark.parametrize("size", [0, 3, 200_000])
async def test_strings_none_few_and_many_come_back(size: int) -> None:
    items = [b"%d\xff" % i for i in range(size)]
    plane = StubPlane(echo("m", BYTES))
    async with front_end(plane) as front, channel(front.port) as opened:
        sent = request(pb.Tensor(name="x0", dtype="BYTES", shape=[size], items=items))
        answer = await predict(opened, sent)
        await until(lambda: plane.released == 1)
    assert list(answer.outputs[0].items) == items
    assert plane.requests[0].inputs[0].items == items


async def test_many_strings_are_read_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    original = v1_codec.decode

    def watched(*args: Any, **named: Any) -> Any:
        threads.append(threading.current_thread())
        return original(*args, **named)

    monkeypatch.setattr(v1_codec, "decode", watched)
    numbers = np.zeros(10 * v1_codec.HEAVY_BYTES, np.uint8).tobytes()
    async with (
        front_end(StubPlane(echo("m", BYTES), echo("n", FP32))) as front,
        channel(front.port) as opened,
    ):
        for size in (4, v1_codec.HEAVY_BYTES):
            await predict(
                opened,
                request(pb.Tensor(name="x0", dtype="BYTES", shape=[size], items=[b""] * size)),
            )
        large = pb.Tensor(name="x0", dtype="FP32", shape=[len(numbers) // 4], data=numbers)
        await predict(opened, pb.PredictRequest(servable="n", inputs=[large]))
    apart = [thread is not threading.main_thread() for thread in threads]
    assert apart == [False, True, False]


async def test_numbers_are_not_copied_on_the_way_to_the_data_plane() -> None:
    plane = StubPlane(echo("m", FP32))
    async with front_end(plane) as front, channel(front.port) as opened:
        await predict(opened, request(ones()))
    array = plane.requests[0].inputs[0].array
    assert array is not None
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, memoryview)
    assert len(base.obj) > array.nbytes


async def test_all_that_a_request_says_reaches_the_data_plane() -> None:
    plane = StubPlane(echo("m", FP32, FP32))
    second = ones(name="x1", data=(ONES * 2).tobytes())
    async with front_end(plane) as front, channel(front.port) as opened:
        before = time.monotonic()
        answer = await predict(
            opened,
            request(ones(), second, version=3, method="predict", outputs=["x1"], priority=7),
            timeout=15,
            metadata=(("x-request-id", "r-9"),),
        )
        after = time.monotonic()
    (got,) = plane.requests
    assert (got.version, got.outputs, got.priority, got.id) == (3, ("x1",), 7, "r-9")
    assert got.deadline is not None
    assert before + 14 < got.deadline < after + 15.1
    assert [t.name for t in answer.outputs] == ["x1"]
    assert answer.id == "r-9"


async def test_an_unnamed_servable_is_the_only_one() -> None:
    async with front_end(StubPlane(echo("m", FP32))) as front, channel(front.port) as opened:
        answer = await predict(opened, pb.PredictRequest(inputs=[ones()]))
    assert answer.servable == "m"


async def test_documents_are_marked() -> None:
    outputs = (TensorSpec("doc", BYTES, None, json=True), TensorSpec("text", BYTES, None))
    signature = Signature((TensorSpec("x0", FP32, None),), outputs)
    known = Description("m", 3, signature, BatchAxes.refused("made up"), 1, "made-up")
    items = [b'{"a": 1}']
    made = tuple(Tensor(spec.name, BYTES, (1,), items=items) for spec in outputs)
    async with (
        front_end(StubPlane(known, model=lambda _: made)) as front,
        channel(front.port) as opened,
    ):
        answer = await predict(opened, request(ones()))
    assert [(t.name, t.json) for t in answer.outputs] == [("doc", True), ("text", False)]


@pytest.mark.parametrize(
    ("message", "code", "where"),
    [
        (request(ones(dtype="fp32")), "unknown_dtype", "inputs.x0.dtype"),
        (request(ones(dtype="")), "unknown_dtype", "inputs.x0.dtype"),
        (request(ones(shape=[2, -3])), "bad_shape", "inputs.x0.shape"),
        (request(ones(shape=[1] * 40)), "bad_shape", "inputs.x0.shape"),
        (request(ones(shape=[2**40, 2**40])), "bad_shape", "inputs.x0.shape"),
        (request(ones(shape=[2, 4])), "wrong_size", "inputs.x0"),
        (request(ones(items=[b"a"])), "wrong_field", "inputs.x0.items"),
        (request(ones(dtype="BYTES")), "wrong_field", "inputs.x0.data"),
        (
            request(pb.Tensor(name="x0", dtype="BYTES", shape=[2], items=[b"a"])),
            "wrong_size",
            "inputs.x0",
        ),
        (
            request(pb.Tensor(name="x0", dtype="BOOL", shape=[1], data=b"\2")),
            "bad_element",
            "inputs.x0",
        ),
        (b"\x0a\xff", "bad_message", ""),
        (b"\x2a\x02\x0a\x05", "bad_message", ""),
    ],
)
async def test_a_wrong_request_is_refused_with_its_place(
    message: Any, code: str, where: str
) -> None:
    plane = StubPlane(echo("m", FP32))
    async with front_end(plane) as front, channel(front.port) as opened:
        error = await refusal(opened, "Predict", message)
    assert (type(error), error.code, error.where) == (InvalidRequest, code, where)
    assert not plane.requests


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"method": "train"}, "unknown_method"),
        ({"version": -1}, "unknown_version"),
        ({"version": 9}, "unknown_version"),
        ({"servable": "other"}, "unknown_servable"),
        ({"servable": "m" * 256}, "unknown_servable"),
    ],
)
async def test_what_is_not_there_is_not_found(fields: dict[str, Any], code: str) -> None:
    message = pb.PredictRequest(**{"servable": "m", "inputs": [ones()], **fields})
    async with front_end(StubPlane(echo("m", FP32))) as front, channel(front.port) as opened:
        error = await refusal(opened, "Predict", message)
    assert (type(error), error.code) == (NotFound, code)


async def test_errors_of_the_data_plane_arrive_whole() -> None:
    sent = Overloaded("the queue is full", code="queue_full", fix="wait", retry_after_s=0.5)

    def fail(_request: InferRequest) -> tuple[Tensor, ...]:
        raise sent

    plane = StubPlane(echo("m", FP32), model=fail)
    async with front_end(plane) as front, channel(front.port) as opened:
        error = await refusal(opened, "Predict", request(ones()))
    assert type(error) is Overloaded
    assert vars(error) == vars(sent)


async def test_describe_list_and_ready_answer() -> None:
    plane = StubPlane(echo("m", FP32, BF16))
    async with front_end(plane) as front, channel(front.port) as opened:
        described = pb.DescribeResponse.FromString(
            await call(opened, "Describe", pb.DescribeRequest(servable="m", version=3))
        )
        listed = pb.ListResponse.FromString(await call(opened, "List", b""))
        ready = [
            pb.ReadyResponse.FromString(await call(opened, "Ready", pb.ReadyRequest(servable=name)))
            for name in ("", "m", "other")
        ]
        plane.is_ready = False
        no = pb.ReadyResponse.FromString(await call(opened, "Ready", b""))
    assert [spec.dtype for spec in described.inputs] == ["FP32", "BF16"]
    assert described.inputs[0].any_rank
    assert [(v.servable, v.version, v.state) for v in listed.versions] == [("m", 3, "READY")]
    assert [answer.ready for answer in (*ready, no)] == [True, True, False, False]


async def test_a_drain_refuses_and_says_when_to_come_back() -> None:
    async with front_end(StubPlane(echo("m", FP32))) as front, channel(front.port) as opened:
        await predict(opened, request(ones()))
        draining = asyncio.ensure_future(front.drain(WAIT_S))
        error = await refusal(opened, "Predict", request(ones()))
        await asyncio.wait_for(draining, WAIT_S)
    assert (type(error), error.code) == (Unavailable, "draining")
    assert error.retry_after_s is not None


async def test_reflection_knows_the_service() -> None:
    async with front_end(StubPlane()) as front, channel(front.port) as opened:
        stream = opened.stream_stream(f"/{V1}/ServerReflectionInfo")()
        ask = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)
        await stream.write(ask.SerializeToString())
        data = await asyncio.wait_for(stream.read(), WAIT_S)
        await stream.done_writing()
    told = reflection_pb2.ServerReflectionResponse.FromString(data)
    (file,) = told.file_descriptor_response.file_descriptor_proto
    assert file == pb.DESCRIPTOR.serialized_pb


async def test_a_call_that_is_cancelled_withdraws_its_request() -> None:
    class Held(StubPlane):
        def commit(self, claim: StubClaim) -> None:
            """Never answer."""

    plane = Held(echo("m", FP32))
    async with front_end(plane) as front, channel(front.port) as opened:
        running = call(opened, "Predict", request(ones()))
        await until(lambda: len(plane.requests) == 1)
        running.cancel()
        await until(lambda: plane.abandoned == 1)
        with pytest.raises(asyncio.CancelledError):
            await running
