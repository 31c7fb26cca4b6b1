"""ModelConfig, and ModelReady of what is known and cannot take requests."""

from __future__ import annotations

from dataclasses import replace

from serving.errors import Unavailable
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.repository.stubs import triton_model_config_pb2 as triton
from serving.request import Description
from serving.tensor import FP32
from tests.doubles.plane import StubPlane

from .running import channel, front_end, unary
from .served import echo

DOCUMENT = {
    "name": "m",
    "max_batch_size": 8,
    "input": [{"name": "x0", "data_type": "TYPE_FP32", "dims": [-1, 3]}],
    "version_policy": {"specific": {"versions": [3]}},
}


class BrokenPlane(StubPlane):
    """Knows of every servable, and none is ready."""

    def describe(
        self, servable: str | None, version: int | None = None, method: str | None = None
    ) -> Description:
        raise Unavailable(f"servable {servable!r} cannot be served", code="not_ready")


async def test_model_config_is_triton_s_message() -> None:
    plane = StubPlane(replace(echo("m", FP32), details={"config": DOCUMENT}))
    async with front_end(plane) as front, channel(front.port) as opened:
        asked = pb.ModelConfigRequest(name="m", version="3")
        answer = await unary(opened, "ModelConfig", asked, pb.ModelConfigResponse)
    assert triton.ModelConfig.FromString(answer.config) == triton.ModelConfig(
        name="m",
        max_batch_size=8,
        input=[triton.ModelInput(name="x0", data_type=triton.TYPE_FP32, dims=[-1, 3])],
        version_policy=triton.ModelVersionPolicy(
            specific=triton.ModelVersionPolicy.Specific(versions=[3])
        ),
    )


async def test_a_servable_that_cannot_be_served_is_not_ready_and_no_error() -> None:
    async with front_end(BrokenPlane()) as front, channel(front.port) as opened:
        asked = pb.ModelReadyRequest(name="m")
        answer = await unary(opened, "ModelReady", asked, pb.ModelReadyResponse)
    assert not answer.ready
