"""TensorFlow Serving's services over both engines: calls, refusals, limits, reflection."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2

from serving.errors import ExecutionFailed
from serving.frontends.grpc.stubs import tensorflow_pb2 as tf
from serving.frontends.grpc.stubs import tensorflow_serving_pb2 as pb
from serving.request import Description, InferRequest
from serving.tensor import BYTES, FP32, INT64, Tensor
from tests.contract.grpc.conftest import Serving
from tests.doubles.plane import StubPlane
from tests.unit.frontends.grpc.running import WAIT_S, channel, until
from tests.unit.frontends.grpc.served import echo

ANSWERS = {
    "Predict": pb.PredictResponse,
    "GetModelMetadata": pb.GetModelMetadataResponse,
    "GetModelStatus": pb.GetModelStatusResponse,
}
M = echo("m", FP32, INT64, BYTES)


class LabelledPlane(StubPlane):
    """Knows the label ``stable`` for version 3."""

    def describe(self, servable: Any, version: Any = None, method: Any = None) -> Description:
        return super().describe(servable, 3 if version == "stable" else version, method)


def call(opened: grpc.aio.Channel, path: str, message: Any, **extra: Any) -> Any:
    service, name = path.split("/")
    stub = opened.unary_unary(
        f"/tensorflow.serving.{service}/{name}",
        request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
        response_deserializer=ANSWERS[name].FromString if name in ANSWERS else None,
    )
    return stub(message, timeout=extra.pop("timeout", WAIT_S), **extra)


def predict(opened: grpc.aio.Channel, message: Any, **extra: Any) -> Any:
    return call(opened, "PredictionService/Predict", message, **extra)


def tensor(dtype: int, *shape: int, **fields: Any) -> tf.TensorProto:
    dims = [tf.TensorShapeProto.Dim(size=size) for size in shape]
    return tf.TensorProto(dtype=dtype, tensor_shape=tf.TensorShapeProto(dim=dims), **fields)


def request(name: str = "m", **inputs: tf.TensorProto) -> pb.PredictRequest:
    message = pb.PredictRequest()
    message.model_spec.name = name
    for key, value in inputs.items():
        message.inputs[key].CopyFrom(value)
    return message


def three() -> pb.PredictRequest:
    return request(
        x0=tensor(1, 2, tensor_content=np.float32([1.5, -2]).tobytes()),
        x1=tensor(9, 2, int64_val=[-7]),
        x2=tensor(7, 2, string_val=[b"a", b"\xff"]),
    )


async def failure(under_way: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await under_way
    return failed.value


async def test_predict_answers_in_the_lists_that_clients_read(serving: Serving) -> None:
    plane = StubPlane(M)
    async with serving(plane) as front, channel(front.port) as opened:
        answer = await predict(opened, three(), metadata=(("x-request-id", "a1"),))
    found = answer.outputs
    assert list(found["x0"].float_val) == [1.5, -2]
    assert list(found["x1"].int64_val) == [-7, -7]
    assert list(found["x2"].string_val) == [b"a", b"\xff"]
    assert [d.size for d in found["x0"].tensor_shape.dim] == [2]
    spec = answer.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 3, "serving_default")
    assert plane.requests[0].id == "a1"
    assert plane.requests[0].deadline is not None
    assert plane.released == 1


async def test_large_tensors_come_and_go(serving: Serving) -> None:
    floats = np.arange(1 << 18, dtype=np.float32)
    integers = np.arange(1 << 16) * 2**40 - 2**50
    strings = [b"%d" % n for n in range(20_000)]
    message = request(
        x0=tensor(1, 1 << 18, tensor_content=floats.tobytes()),
        x1=tensor(9, 1 << 16, int64_val=integers.tolist()),
        x2=tensor(7, 20_000, string_val=strings),
    )
    plane = StubPlane(M)
    async with serving(plane) as front, channel(front.port) as opened:
        answer = await predict(opened, message)
        message.inputs["x1"].Clear()
        message.inputs["x1"].CopyFrom(tensor(9, 1 << 16, tensor_content=integers.tobytes()))
        message.inputs["x2"].CopyFrom(tensor(7, 1, string_val=[b"a"]))
        again = await predict(opened, message)
    assert np.array_equal(answer.outputs["x0"].float_val, floats)
    for told in (answer, again):
        assert np.array_equal(told.outputs["x1"].int64_val, integers)
    assert list(answer.outputs["x2"].string_val) == strings
    assert plane.released == 2


async def test_output_filter_names_what_is_wanted(serving: Serving) -> None:
    message = three()
    message.output_filter.append("x1")
    async with serving(StubPlane(M)) as front, channel(front.port) as opened:
        assert set((await predict(opened, message)).outputs) == {"x1"}
        message.output_filter[0] = "x9"
        error = await failure(predict(opened, message))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "output 'x9' is not known; expected 'x0', 'x1', 'x2'" in error.details()
        message.output_filter[:] = ["x1", "x1"]
        assert "asked for twice" in (await failure(predict(opened, message))).details()


async def test_versions_labels_and_signatures_are_found(serving: Serving) -> None:
    methods = [dataclasses.replace(M, method=name) for name in ("predict", "scale")]
    plane = LabelledPlane(*methods)
    async with serving(plane) as front, channel(front.port) as opened:
        message = three()
        message.model_spec.version.value = 3
        message.model_spec.signature_name = "scale"
        answer = await predict(opened, message)
        assert answer.model_spec.signature_name == "scale"
        message.model_spec.version_label = "stable"
        await predict(opened, message)
        message.model_spec.version.value = 0
        await predict(opened, message)
    assert [r.version for r in plane.requests] == [3, "stable", None]
    assert {r.method for r in plane.requests} == {"scale"}


WRONG = {
    "model": (lambda m: setattr(m.model_spec, "name", "n"), "NOT_FOUND", "servable 'n'"),
    "no_model": (lambda m: m.ClearField("model_spec"), "INVALID_ARGUMENT", "model_spec.name"),
    "long_name": (lambda m: setattr(m.model_spec, "name", "n" * 300), "NOT_FOUND", "no servable"),
    "version": (lambda m: setattr(m.model_spec.version, "value", 9), "NOT_FOUND", "version 9"),
    "negative": (lambda m: setattr(m.model_spec.version, "value", -1), "NOT_FOUND", "version -1"),
    "label": (lambda m: setattr(m.model_spec, "version_label", "new"), "NOT_FOUND", "new"),
    "no_label": (lambda m: setattr(m.model_spec, "version_label", "1"), "NOT_FOUND", "no label"),
    "signature": (
        lambda m: setattr(m.model_spec, "signature_name", "s"), "NOT_FOUND", "no signature 's'"
    ),
    "tensor": (
        lambda m: m.inputs["x0"].ClearField("dtype"), "INVALID_ARGUMENT", "inputs.x0.dtype"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_wrong_with_a_call_is_named(serving: Serving, name: str) -> None:
    change, code, text = WRONG[name]
    message = three()
    change(message)
    plane = StubPlane(M)
    async with serving(plane) as front, channel(front.port) as opened:
        error = await failure(predict(opened, message))
    assert error.code() is grpc.StatusCode[code]
    assert text in error.details()
    assert len(plane.errors) == 1
    assert plane.errors[0][0] == "grpc"


@pytest.mark.parametrize("data", [b"\xff", b"\x12\x05abc", b"\x12\x02\x0a\xff", b"\x0a\x01\xff"])
async def test_bytes_that_are_no_message_are_refused(serving: Serving, data: bytes) -> None:
    async with serving(StubPlane(M)) as front, channel(front.port) as opened:
        error = await failure(predict(opened, data))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "TensorFlow Serving's .proto files" in error.details()


async def test_messages_are_bounded_as_sent_and_as_repeated(serving: Serving) -> None:
    one = StubPlane(echo("m", FP32))
    async with serving(one, max_request_mb=1) as front, channel(front.port) as opened:
        large = request(x0=tensor(1, 1 << 19, tensor_content=bytes(4 << 19)))
        error = await failure(predict(opened, large))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        error = await failure(predict(opened, request(x0=tensor(1, 1 << 19, float_val=[1]))))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "repeated" in error.details()
        answer = await predict(opened, request(x0=tensor(1, 1 << 18, float_val=[1])))
        assert len(answer.outputs["x0"].float_val) == 1 << 18


async def test_an_input_that_is_given_twice_is_refused(serving: Serving) -> None:
    twice = request(x0=tensor(1, 1, float_val=[1])).SerializeToString()
    twice += pb.PredictRequest(inputs={"x0": tensor(1, 1, float_val=[2])}).SerializeToString()
    async with serving(StubPlane(echo("m", FP32))) as front, channel(front.port) as opened:
        assert "given twice" in (await failure(predict(opened, twice))).details()


async def test_a_model_that_fails_ends_the_call(serving: Serving) -> None:
    def fail(_: InferRequest) -> tuple[Tensor, ...]:
        raise ExecutionFailed("index 9 is out of range")

    plane = StubPlane(M, model=fail)
    async with serving(plane) as front, channel(front.port) as opened:
        error = await failure(predict(opened, three()))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "index 9 is out of range"


async def test_a_call_that_is_given_up_is_withdrawn(serving: Serving) -> None:
    class Silent(StubPlane):
        def commit(self, claim: Any) -> None:
            pass

    plane = Silent(M)
    async with serving(plane) as front, channel(front.port) as opened:
        under_way = predict(opened, three())
        await until(lambda: len(plane.requests) == 1)
        under_way.cancel()
        await until(lambda: plane.abandoned == 1)
        error = await failure(predict(opened, three(), timeout=0.2))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_metadata_is_the_signatures(serving: Serving) -> None:
    message = pb.GetModelMetadataRequest(metadata_field=["signature_def"])
    message.model_spec.name = "m"
    path = "PredictionService/GetModelMetadata"
    async with serving(StubPlane(M)) as front, channel(front.port) as opened:
        answer = await call(opened, path, message)
        assert (answer.model_spec.name, answer.model_spec.version.value) == ("m", 3)
        packed = answer.metadata["signature_def"]
        assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        found = pb.SignatureDefMap.FromString(packed.value).signature_def["serving_default"]
        assert {n: i.dtype for n, i in found.inputs.items()} == {"x0": 1, "x1": 9, "x2": 7}
        assert found.inputs["x0"].tensor_shape.unknown_rank
        message.metadata_field[0] = "graph"
        assert "'signature_def'" in (await failure(call(opened, path, message))).details()
        del message.metadata_field[:]
        error = await failure(call(opened, path, message))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_status_is_told_of_all_versions_or_one(serving: Serving) -> None:
    message = pb.GetModelStatusRequest()
    message.model_spec.name = "m"
    path = "ModelService/GetModelStatus"
    async with serving(LabelledPlane(M)) as front, channel(front.port) as opened:
        for change in (
            lambda: None,
            lambda: setattr(message.model_spec.version, "value", 3),
            lambda: setattr(message.model_spec, "version_label", "stable"),
        ):
            change()
            (told,) = (await call(opened, path, message)).model_version_status
            assert (told.version, told.state) == (3, pb.ModelVersionStatus.AVAILABLE)
            assert (told.status.error_code, told.status.error_message) == (0, "")
        message.model_spec.version.value = 4
        error = await failure(call(opened, path, message))
        assert error.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("path", "way"),
    [
        ("PredictionService/Classify", "PredictionService/Predict"),
        ("PredictionService/Regress", "PredictionService/Predict"),
        ("PredictionService/MultiInference", "PredictionService/Predict"),
        ("SessionService/SessionRun", "PredictionService/Predict"),
        ("ModelService/HandleReloadConfigRequest", "serving load NAME"),
    ],
)
async def test_calls_that_are_not_offered_name_the_way(
    serving: Serving, path: str, way: str
) -> None:
    async with serving(StubPlane(M)) as front, channel(front.port) as opened:
        error = await failure(call(opened, path, b"whatever"))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert way in error.details()


async def test_reflection_knows_the_services_and_their_files(serving: Serving) -> None:
    asked = reflection_pb2.ServerReflectionRequest
    async with serving(StubPlane(M)) as front, channel(front.port) as opened:
        stub = opened.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=asked.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        questions = [
            asked(list_services=""),
            asked(file_containing_symbol="tensorflow.serving.PredictionService"),
            asked(file_by_filename="tensorflow.proto"),
        ]
        services, files, one = [answer async for answer in stub(iter(questions))]
    offered = {service.name for service in services.list_services_response.service}
    assert {f"tensorflow.serving.{n}Service" for n in ("Prediction", "Model", "Session")} <= offered
    found = [
        FileDescriptorProto.FromString(data)
        for data in files.file_descriptor_response.file_descriptor_proto
    ]
    assert {file.name for file in found} == {
        "tensorflow_serving.proto", "tensorflow.proto", "tensorflow_error.proto",
        "google/protobuf/any.proto", "google/protobuf/wrappers.proto",
    }  # fmt: skip
    (alone,) = one.file_descriptor_response.file_descriptor_proto
    assert FileDescriptorProto.FromString(alone).package == "tensorflow"


ALREADY = """
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

def declare():
    for name, package, message in (
        ("tensorflow/core/framework/tensor.proto", "tensorflow", "TensorProto"),
        ("tensorflow_serving/apis/predict.proto", "tensorflow.serving", "PredictRequest"),
    ):
        file = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")
        file.message_type.add(name=message).field.add(name="own", number=1, type=5, label=1)
        descriptor_pool.Default().AddSerializedFile(file.SerializeToString())

def check():
    found = descriptor_pool.Default().FindMessageTypeByName("tensorflow.TensorProto")
    theirs = message_factory.GetMessageClass(found)
    from serving.frontends.grpc.stubs import tensorflow_pb2 as ours
    assert theirs(own=3).SerializeToString() == ours.TensorProto(dtype=3).SerializeToString()
"""


@pytest.mark.parametrize("order", ["declare(); import {0}", "import {0}; declare()"])
def test_tensorflow_s_own_packages_may_be_in_the_same_process(order: str) -> None:
    program = ALREADY + order.format("serving.frontends.grpc.tf_service") + "; check()"
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (told.returncode, told.stderr) == (0, "")
