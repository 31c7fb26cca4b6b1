"""ModelStatistics: the same document as over REST, in messages with Triton's numbers."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from serving.frontends import v2_statistics
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.tensor import FP32
from tests.doubles.plane import StubPlane
from tests.doubles.statistics import BUSY, IDLE, server
from tests.unit.frontends.grpc.running import channel, front_end, unary
from tests.unit.frontends.grpc.served import echo


def plane() -> StubPlane:
    stub = StubPlane(echo("busy", FP32, version=2))
    stub.told = server(BUSY, IDLE)
    return stub


async def ask(stub: StubPlane, name: str = "", version: str = "") -> pb.ModelStatisticsResponse:
    async with front_end(stub) as front, channel(front.port) as opened:
        question = pb.ModelStatisticsRequest(name=name, version=version)
        return await unary(opened, "ModelStatistics", question, pb.ModelStatisticsResponse)


async def test_grpc_statistics_are_those_of_rest() -> None:
    stub = plane()
    told = await ask(stub)
    as_json = MessageToDict(
        told, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )

    def plain(value: object) -> object:
        """64-bit numbers are strings in protobuf's JSON."""
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return str(value)

    assert plain(as_json) == plain(await v2_statistics.document(stub))


async def test_grpc_statistics_are_of_those_that_were_asked_for() -> None:
    assert [m.name for m in (await ask(plane())).model_stats] == ["busy", "idle"]
    assert [m.name for m in (await ask(plane(), "busy")).model_stats] == ["busy"]
    assert [m.version for m in (await ask(plane(), "busy", "2")).model_stats] == ["2"]


@pytest.mark.parametrize(("name", "version"), [("bussy", ""), ("busy", "9"), ("busy", "x")])
async def test_grpc_statistics_of_what_is_not_there_are_not_found(name: str, version: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await ask(plane(), name, version)
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND


def test_grpc_statistics_have_the_numbers_of_triton_s_messages() -> None:
    durations = ["success", "fail", "queue", "compute_input", "compute_infer", "compute_output"]
    wanted = {
        "ModelStatisticsRequest": ["name", "version"],
        "ModelStatisticsResponse": ["model_stats"],
        "StatisticDuration": ["count", "ns"],
        "InferStatistics": [*durations, "cache_hit", "cache_miss"],
        "InferResponseStatistics": [
            "compute_infer", "compute_output", "success", "fail", "empty_response", "cancel",
        ],
        "InferBatchStatistics": ["batch_size", "compute_input", "compute_infer", "compute_output"],
        "MemoryUsage": ["type", "id", "byte_size"],
        "ModelStatistics": [
            "name", "version", "last_inference", "inference_count", "execution_count",
            "inference_stats", "batch_stats", "memory_usage", "response_stats",
        ],
    }  # fmt: skip
    for name, fields in wanted.items():
        declared = getattr(pb, name).DESCRIPTOR.fields
        assert {f.name: f.number for f in declared} == {f: i for i, f in enumerate(fields, 1)}


async def test_grpc_error_answers_are_counted() -> None:
    stub = plane()
    with pytest.raises(grpc.aio.AioRpcError):
        await ask(stub, "bussy")
    await ask(stub, "busy")
    assert stub.errors == [("grpc", "unknown_servable")]
