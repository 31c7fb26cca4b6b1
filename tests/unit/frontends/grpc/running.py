"""A gRPC front end on a free port, a channel to it, and how to call it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from serving.config import ServerSettings
from serving.dataplane import DataPlane
from serving.frontends.grpc.server import GrpcFrontEnd
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.frontends.shared_memory.regions import Regions

WAIT_S = 60.0
ENGINE = "lane"


@asynccontextmanager
async def front_end(
    plane: DataPlane, *, unix: str = "", regions: Regions | None = None, **settings: Any
) -> AsyncIterator[GrpcFrontEnd]:
    """Run a front end; it is stopped at the end whatever happened."""
    given = {"grpc_port": 0, "grpc_engine": ENGINE, **settings}
    known = ServerSettings(model_dir=Path("unused"), **given)
    front = GrpcFrontEnd(plane, known, unix=unix, regions=regions)
    await front.start()
    try:
        yield front
    finally:
        await front.stop()


@asynccontextmanager
async def channel(port: int) -> AsyncIterator[grpc.aio.Channel]:
    """Connect to a port, with no limit on the answers' size."""
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as opened:
        yield opened


def infer(opened: grpc.aio.Channel, message: Any, **extra: Any) -> grpc.aio.UnaryUnaryCall:
    """Start a ModelInfer call; await it for the response."""
    return unary(opened, "ModelInfer", message, pb.ModelInferResponse, **extra)


def unary(
    opened: grpc.aio.Channel, method: str, message: Any, answer: Any, **extra: Any
) -> grpc.aio.UnaryUnaryCall:
    """Start a call of the inference service; bytes are sent as they are."""
    stub = opened.unary_unary(
        f"/inference.GRPCInferenceService/{method}",
        request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
        response_deserializer=answer.FromString,
    )
    return stub(message, timeout=extra.pop("timeout", WAIT_S), **extra)


async def until(fact: Callable[[], bool]) -> None:
    """Wait until something is so; fails after WAIT_S."""
    async with asyncio.timeout(WAIT_S):
        while not fact():
            await asyncio.sleep(0.005)
