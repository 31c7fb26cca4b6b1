"""The standard health and reflection services, as their own clients see them."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from serving.errors import Unavailable
from serving.frontends.grpc.reflection import V1, V1ALPHA
from serving.request import Description
from serving.tensor import FP32
from tests.doubles.plane import StubPlane

from .running import WAIT_S, channel, front_end, until
from .served import echo

Status = health_pb2.HealthCheckResponse


def asked(service: str = "") -> Any:
    return health_pb2.HealthCheckRequest(service=service)


async def next_status(watch: Any) -> int:
    answer = await asyncio.wait_for(watch.read(), WAIT_S)
    return int(answer.status)


async def test_check_follows_the_plane() -> None:
    plane = StubPlane(echo("m", FP32), echo("warming", FP32, ready=False))
    async with front_end(plane) as front, channel(front.port) as opened:
        stub = health_pb2_grpc.HealthStub(opened)
        assert (await stub.Check(asked())).status == Status.SERVING
        assert (await stub.Check(asked("m"))).status == Status.SERVING
        assert (await stub.Check(asked("warming"))).status == Status.NOT_SERVING
        plane.is_ready = False
        assert (await stub.Check(asked())).status == Status.NOT_SERVING
        assert (await stub.Check(asked("m"))).status == Status.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.Check(asked("unknown"))
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND


class FailedPlane(StubPlane):
    """Knows one servable more, which failed to load."""

    def describe(
        self, servable: str | None, version: int | None = None, method: str | None = None
    ) -> Description:
        if servable == "failed":
            raise Unavailable("servable 'failed' version 1 is FAILED", code="not_ready")
        return super().describe(servable, version)


async def test_a_servable_that_failed_is_not_serving() -> None:
    async with front_end(FailedPlane(echo("m", FP32))) as front, channel(front.port) as opened:
        stub = health_pb2_grpc.HealthStub(opened)
        assert (await stub.Check(asked("failed"))).status == Status.NOT_SERVING
        watch = stub.Watch(asked("failed"))
        assert await next_status(watch) == Status.NOT_SERVING
        watch.cancel()


async def test_watch_sends_each_change_once() -> None:
    plane = StubPlane(echo("m", FP32))
    async with front_end(plane) as front, channel(front.port) as opened:
        watch = health_pb2_grpc.HealthStub(opened).Watch(asked())
        assert await next_status(watch) == Status.SERVING
        plane.is_ready = False
        assert await next_status(watch) == Status.NOT_SERVING
        plane.is_ready = True
        assert await next_status(watch) == Status.SERVING
        watch.cancel()


async def test_watch_of_an_unknown_name_waits_for_it() -> None:
    plane = StubPlane(echo("m", FP32))
    async with front_end(plane) as front, channel(front.port) as opened:
        watch = health_pb2_grpc.HealthStub(opened).Watch(asked("late"))
        assert await next_status(watch) == Status.SERVICE_UNKNOWN
        plane._known["late"] = {"": echo("late", FP32)}
        assert await next_status(watch) == Status.SERVING
        watch.cancel()


async def test_watchers_that_leave_stop_the_clock() -> None:
    async with front_end(StubPlane()) as front, channel(front.port) as opened:
        health = front._health
        assert health is not None
        watches = [health_pb2_grpc.HealthStub(opened).Watch(asked()) for _ in range(3)]
        for watch in watches:
            await next_status(watch)
        assert health._ticker is not None
        for watch in watches:
            watch.cancel()
        await until(lambda: health._ticker is None)


async def test_drain_tells_watchers_and_ends_their_streams() -> None:
    async with front_end(StubPlane()) as front, channel(front.port) as opened:
        watch = health_pb2_grpc.HealthStub(opened).Watch(asked())
        assert await next_status(watch) == Status.SERVING
        draining = asyncio.ensure_future(front.drain(10 * WAIT_S))
        assert await next_status(watch) == Status.NOT_SERVING
        assert await asyncio.wait_for(watch.read(), WAIT_S) is grpc.aio.EOF
        await asyncio.wait_for(draining, WAIT_S)


def reflect(opened: grpc.aio.Channel, service: str) -> Any:
    return opened.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )()


@pytest.mark.parametrize("service", [V1, V1ALPHA])
async def test_reflection_lists_the_services_and_gives_their_files(service: str) -> None:
    async with front_end(StubPlane()) as front, channel(front.port) as opened:
        stream = reflect(opened, service)
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = await asyncio.wait_for(stream.read(), WAIT_S)
        symbol = "inference.GRPCInferenceService"
        await stream.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))
        found = await asyncio.wait_for(stream.read(), WAIT_S)
        await stream.done_writing()
        assert await asyncio.wait_for(stream.read(), WAIT_S) is grpc.aio.EOF
    names = {s.name for s in listed.list_services_response.service}
    assert {symbol, "grpc.health.v1.Health"} <= names
    (data,) = found.file_descriptor_response.file_descriptor_proto
    (declared,) = FileDescriptorProto.FromString(data).service
    assert "ModelInfer" in {method.name for method in declared.method}


Asked = reflection_pb2.ServerReflectionRequest


async def reflected(*questions: Any) -> list[Any]:
    """Return the answers to some questions."""
    async with front_end(StubPlane()) as front, channel(front.port) as opened:
        stream = reflect(opened, V1)
        answers = []
        for question in questions:
            await stream.write(question)
            answers.append(await asyncio.wait_for(stream.read(), WAIT_S))
            assert answers[-1].original_request == question
        return answers


async def test_reflection_gives_a_file_with_all_that_it_imports() -> None:
    outer, inner = "tests/reflected_outer.proto", "tests/reflected_inner.proto"
    pool = descriptor_pool.Default()
    pool.Add(FileDescriptorProto(name=inner, package="tests.reflected"))
    pool.Add(FileDescriptorProto(name=outer, package="tests.reflected", dependency=[inner]))
    (answer,) = await reflected(Asked(file_by_filename=outer))
    files = answer.file_descriptor_response.file_descriptor_proto
    assert [FileDescriptorProto.FromString(data).name for data in files] == [outer, inner]


async def test_reflection_knows_extensions() -> None:
    file = FileDescriptorProto(name="tests/reflected_extension.proto", package="tests.extended")
    file.message_type.add(name="Open").extension_range.add(start=100, end=200)
    for name, number in (("second", 120), ("first", 110)):
        file.extension.add(
            name=name, number=number, extendee=".tests.extended.Open",
            type=FieldDescriptorProto.TYPE_INT32, label=FieldDescriptorProto.LABEL_OPTIONAL,
        )  # fmt: skip
    descriptor_pool.Default().Add(file)
    one = reflection_pb2.ExtensionRequest(
        containing_type="tests.extended.Open", extension_number=110
    )
    numbers, where = await reflected(
        Asked(all_extension_numbers_of_type="tests.extended.Open"),
        Asked(file_containing_extension=one),
    )
    told = numbers.all_extension_numbers_response
    assert told.base_type_name == "tests.extended.Open"
    assert list(told.extension_number) == [110, 120]
    (data,) = where.file_descriptor_response.file_descriptor_proto
    assert FileDescriptorProto.FromString(data).name == file.name


async def test_reflection_goes_on_after_questions_that_it_cannot_answer() -> None:
    missing = reflection_pb2.ExtensionRequest(containing_type="no.Type", extension_number=1)
    *unknown, empty, listed = await reflected(
        Asked(file_by_filename="no.proto"),
        Asked(file_containing_symbol="no.Symbol"),
        Asked(file_containing_symbol=""),
        Asked(file_containing_extension=missing),
        Asked(all_extension_numbers_of_type="no.Type"),
        Asked(),
        Asked(list_services=""),
    )
    not_found, invalid = grpc.StatusCode.NOT_FOUND.value, grpc.StatusCode.INVALID_ARGUMENT.value
    for answer in unknown:
        error = answer.error_response
        assert (error.error_code, error.error_message) == not_found
    assert (empty.error_response.error_code, empty.error_response.error_message) == invalid
    assert listed.list_services_response.service


async def test_drain_ends_reflection_streams_that_nobody_uses() -> None:
    async with front_end(StubPlane()) as front, channel(front.port) as opened:
        stream = reflect(opened, V1)
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        await asyncio.wait_for(stream.read(), WAIT_S)
        await asyncio.wait_for(front.drain(10 * WAIT_S), WAIT_S)
        assert await asyncio.wait_for(stream.read(), WAIT_S) is grpc.aio.EOF
