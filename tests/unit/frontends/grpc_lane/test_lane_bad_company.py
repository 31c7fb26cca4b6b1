"""A good client beside 24 bad ones gets all its answers, and they leave nothing behind.

On grpcio it does not: one that begins thousands of calls at once has those of others cancelled.
"""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from serving.tensor import FP32
from tests.doubles.plane import StubPlane
from tests.unit.frontends.grpc.running import channel, infer, until
from tests.unit.frontends.grpc.served import echo, raw_request

from . import bad_company
from .bad_company import company
from .running import connections_of, engine_of, lane

LARGE = np.ones(25_000, np.float32)


async def test_good_client_beside_bad_ones_gets_all_its_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bad_company, "PACE_S", 0.005)
    monkeypatch.setattr(bad_company, "PAUSE_S", 0.05)
    plane = StubPlane(echo("m", FP32))
    bad = raw_request("m", ("FP32", LARGE)).SerializeToString()
    async with lane(plane) as front, channel(front.port) as opened:
        async with company(front.port, bad) as turns:
            asked = 0
            while asked < 100 or min(turns[1::4]) < 2 or min(turns[3::4]) < 2:
                array = np.full(7, asked, np.float32)
                answer = await infer(opened, raw_request("m", ("FP32", array)), timeout=60)
                assert answer.raw_output_contents[0] == array.tobytes()
                asked += 1
                await asyncio.sleep(0)
        await until(lambda: len(connections_of(front)) == 1)
        await until(lambda: plane.released + plane.abandoned == len(plane.requests))
        shared = engine_of(front)._shared
        assert shared.budget.left == shared.unread.left == 2048 << 20
        assert not shared.tasks
