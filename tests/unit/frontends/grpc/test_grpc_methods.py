"""Methods over gRPC: V2, this server's own protocol, and MindSpore Serving's."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from serving.frontends.grpc.stubs import inference_v2_pb2 as v2
from serving.frontends.grpc.stubs import ms_service_pb2 as ms
from serving.tensor import BYTES, FP32, TEXT, UINT16
from serving.v1 import description
from serving.v1.stubs import serving_v1_pb2 as v1
from tests.doubles import methods
from tests.doubles.plane import StubPlane

from .running import WAIT_S, channel, front_end, infer, unary

THREE = (methods.ECHO, methods.ADD, methods.PICK)


def plane(*more: Any) -> StubPlane:
    return StubPlane(*THREE, *more, model=methods.answer)


def raw(model: str, datatype: str, data: bytes, *shape: int, **parameters: str) -> Any:
    message = v2.ModelInferRequest(model_name=model, raw_input_contents=[data])
    tensor = message.inputs.add(name="x", datatype=datatype, shape=shape)
    for name, value in parameters.items():
        tensor.parameters[name].string_param = value
    return message


async def test_v2_model_may_be_a_method_and_its_head_is_known_the_next_time() -> None:
    found = plane()
    async with front_end(found) as front, channel(front.port) as opened:
        for value in (1, 2):
            data = np.array([value, 3], "<u2").tobytes()
            answer = await infer(opened, raw("kinds:echo", "UINT16", data, 2))
            assert (answer.model_name, answer.raw_output_contents[0]) == ("kinds:echo", data)
            assert answer.outputs[0].datatype == "UINT16"
    assert [(r.method, r.inputs[0].dtype) for r in found.requests] == [("echo", UINT16)] * 2


async def test_v2_parameter_may_name_the_method() -> None:
    found = plane()
    async with front_end(found) as front, channel(front.port) as opened:
        message = raw("kinds", "INT8", b"\1", 1)
        message.parameters["method"].string_param = "echo"
        answer = await infer(opened, message)
        assert (answer.model_name, found.requests[0].method) == ("kinds", "echo")
        message.model_name = "kinds:add"
        for refused, code in (
            (message, grpc.StatusCode.INVALID_ARGUMENT),
            (raw("kinds", "INT8", b"\1", 1), grpc.StatusCode.NOT_FOUND),
            (raw("kinds:nope", "INT8", b"\1", 1), grpc.StatusCode.NOT_FOUND),
            (raw("kinds:echo", "ANY", b"\1", 1), grpc.StatusCode.INVALID_ARGUMENT),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await infer(opened, refused)
            assert failed.value.code() is code


@pytest.mark.parametrize(("parameters", "dtype"), [({}, BYTES), ({"content_type": "str"}, TEXT)])
async def test_v2_strings_are_bytes_unless_they_are_called_text(
    parameters: dict[str, str], dtype: Any
) -> None:
    found = plane()
    async with front_end(found) as front, channel(front.port) as opened:
        answer = await infer(opened, raw("kinds:echo", "BYTES", b"\2\0\0\0ab", 1, **parameters))
        typed = v2.ModelInferRequest(model_name="kinds:echo")
        tensor = typed.inputs.add(name="x", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(b"cd")
        for name, value in parameters.items():
            tensor.parameters[name].string_param = value
        await infer(opened, typed)
    assert (answer.outputs[0].datatype, answer.raw_output_contents[0]) == ("BYTES", b"\2\0\0\0ab")
    assert [(r.inputs[0].dtype, r.inputs[0].items) for r in found.requests] == [
        (dtype, [b"ab"]), (dtype, [b"cd"]),
    ]  # fmt: skip


async def test_v2_text_must_be_utf8() -> None:
    async with front_end(plane()) as front, channel(front.port) as opened:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await infer(opened, raw("kinds:echo", "BYTES", b"\1\0\0\0\xff", 1, content_type="str"))
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "not UTF-8" in str(failed.value.details())


async def test_v2_metadata_and_readiness_are_those_of_a_method_or_of_the_whole() -> None:
    async with front_end(plane()) as front, channel(front.port) as opened:

        async def metadata(name: str) -> Any:
            message = v2.ModelMetadataRequest(name=name)
            return await unary(opened, "ModelMetadata", message, v2.ModelMetadataResponse)

        async def ready(name: str) -> bool:
            message = v2.ModelReadyRequest(name=name)
            answer = await unary(opened, "ModelReady", message, v2.ModelReadyResponse)
            return bool(answer.ready)

        one, whole = await metadata("kinds:add"), await metadata("kinds")
        assert [await ready(f"kinds{name}") for name in ("", ":add", ":nope")] == [
            True,
            True,
            False,
        ]
    assert (one.name, [tensor.name for tensor in one.inputs]) == ("kinds:add", ["x1", "x2"])
    assert (whole.name, len(whole.inputs)) == ("kinds", 0)


async def call(opened: grpc.aio.Channel, name: str, message: Any) -> bytes:
    stub = opened.unary_unary(f"/serving.v1.Serving/{name}")
    data: bytes = await stub(message.SerializeToString(), timeout=WAIT_S)
    return data


async def test_own_protocol_tells_text_from_bytes_both_ways() -> None:
    found = plane()
    async with front_end(found) as front, channel(front.port) as opened:
        for dtype in (TEXT, BYTES):
            sent = v1.Tensor(name="x", dtype=dtype.name, shape=[1], items=[b"ab"])
            message = v1.PredictRequest(servable="kinds", method="echo", inputs=[sent])
            answer = v1.PredictResponse.FromString(await call(opened, "Predict", message))
            assert answer.outputs[0].dtype == dtype.name
            assert found.requests[-1].inputs[0].dtype is dtype
        message.inputs[0].dtype = "TEXT"
        message.inputs[0].items[0] = b"\xff"
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(opened, "Predict", message)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_own_protocol_describes_methods() -> None:
    async with front_end(plane()) as front, channel(front.port) as opened:
        data = await call(opened, "Describe", v1.DescribeRequest(servable="kinds", method="echo"))
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(opened, "Describe", v1.DescribeRequest(servable="kinds"))
        ready = v1.ReadyResponse.FromString(
            await call(opened, "Ready", v1.ReadyRequest(servable="kinds"))
        )
    told = description.from_message(v1.DescribeResponse.FromString(data))
    assert (told.method, told.methods) == ("echo", methods.METHODS)
    assert told.signature == methods.ECHO.signature
    assert (failed.value.code(), ready.ready) == (grpc.StatusCode.NOT_FOUND, True)


async def test_mindspore_s_instances_go_to_a_method_one_by_one() -> None:
    found = plane()
    message = ms.PredictRequest(servable_spec=ms.ServableSpec(name="kinds", method_name="pick"))
    for value in (1.0, -1.0):
        data = np.float32(value).tobytes()
        number = ms.Tensor(dtype=ms.MS_FLOAT32, data=data, shape=ms.TensorShape())
        message.instances.add().items["x"].CopyFrom(number)
    text = ms.Tensor(dtype=ms.MS_STRING, bytes_val=[b"a"], shape=ms.TensorShape(dims=[1]))
    message.instances.add().items["x"].CopyFrom(text)
    async with front_end(found) as front, channel(front.port) as opened:
        stub = opened.unary_unary("/mindspore.serving.proto.MSService/Predict")
        data = await stub(message.SerializeToString(), timeout=WAIT_S)
    reply = ms.PredictReply.FromString(data)
    assert [(e.error_code, e.error_msg) for e in reply.error_msg] == [
        (0, b""), (3, b"it is negative"), (0, b""),
    ]  # fmt: skip
    assert reply.instances[0].items["y"] == message.instances[0].items["x"]
    assert reply.instances[2].items["y"] == text
    assert [(r.inputs[0].dtype, r.inputs[0].shape) for r in found.requests] == [
        (FP32, (1,)), (FP32, (1,)), (TEXT, (1, 1)),
    ]  # fmt: skip
