"""A front end on the lane, over a data plane without processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from serving.frontends.grpc.lane.connection import Connection
from serving.frontends.grpc.lane.server import LaneServer
from serving.frontends.grpc.server import GrpcFrontEnd
from serving.tensor import FP32
from tests.doubles.plane import StubClaim, StubPlane
from tests.unit.frontends.grpc.running import front_end
from tests.unit.frontends.grpc.served import echo, raw_request

ONES = np.ones((2, 3), np.float32)


class HeldPlane(StubPlane):
    """Answers only when told to; keeps the claims."""

    def __init__(self) -> None:
        super().__init__(echo("m", FP32))
        self.claims: list[StubClaim] = []

    def commit(self, claim: StubClaim) -> None:
        self.claims.append(claim)

    def answer(self) -> None:
        claims, self.claims = self.claims, []
        for claim in claims:
            if not claim.answer.done():
                super().commit(claim)


def infer_message(array: Any = ONES) -> bytes:
    """Return a serialised ModelInferRequest for the echo ``m``."""
    return bytes(raw_request("m", ("FP32", array)).SerializeToString())


@asynccontextmanager
async def lane(plane: StubPlane | None = None, **settings: Any) -> AsyncIterator[GrpcFrontEnd]:
    """Run the lane on a free port."""
    plane = plane or StubPlane(echo("m", FP32))
    async with front_end(plane, grpc_engine="lane", **settings) as front:
        yield front


def engine_of(front: GrpcFrontEnd) -> LaneServer:
    """Return the server behind a front end."""
    server = front._server
    assert isinstance(server, LaneServer)
    return server


def connections_of(front: GrpcFrontEnd) -> list[Connection]:
    """Return the connections that a front end has."""
    return list(engine_of(front)._connections)


def feed(connection: Connection, data: bytes) -> None:
    """Hand bytes to a connection as an event loop does, and spoil the buffer behind it."""
    while data:
        room = connection.get_buffer(-1)
        size = min(len(room), len(data))
        room[:size] = data[:size]
        connection.buffer_updated(size)
        room[:size] = b"\xaa" * size
        data = data[size:]
