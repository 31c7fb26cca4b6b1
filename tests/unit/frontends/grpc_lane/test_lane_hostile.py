"""Hostile clients: made-up sessions by the thousand, and bad company for a good client."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import time

import numpy as np

from serving.frontends.grpc.server import GrpcFrontEnd
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.tensor import FP32
from tests.doubles.plane import StubPlane
from tests.unit.frontends.grpc.running import channel, infer, until
from tests.unit.frontends.grpc.served import echo, raw_request

from . import hostile, raw
from .raw import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, frame
from .running import connections_of, engine_of, infer_message, lane

SESSIONS = 500
FRAMES = 20_000
GOOD_CALLS = 300


async def test_sessions_of_damaged_frames_leave_nothing_behind() -> None:
    seed = str(random.SystemRandom().randrange(10**9))
    print(f"python -m tests.unit.frontends.grpc_lane.hostile {seed} 0 {SESSIONS}")
    tally = await hostile.play(seed, 0, SESSIONS)
    assert tally.frames > FRAMES
    # Were all cut, or none, or nothing ever answered, the sessions would not be what they should.
    assert SESSIONS * 0.2 < tally.cut < SESSIONS * 0.8
    assert tally.claims > SESSIONS / 3
    assert tally.together > SESSIONS / 20
    assert tally.answers > tally.claims / 3


async def slow(client: raw.RawClient, stop: asyncio.Event) -> None:
    """Send a call a byte at a time."""
    body = frame(DATA, 0, 1, raw.message(infer_message()))
    client.open(1, raw.fields(raw.INFER))
    for byte in body * 1000:
        client.send(bytes([byte]))
        await asyncio.sleep(0.001)
        if stop.is_set():
            return


async def deaf(client: raw.RawClient, stop: asyncio.Event) -> None:
    """Ask for much, let all of it be sent, and read nothing."""
    client.send(raw.window(0, 1 << 30), raw.settings((4, 1 << 30)))
    client.windows[0], client.initial_window = 16 << 20, 1 << 20
    body = raw.message(infer_message(np.zeros(200_000, np.float32)))
    for stream in range(1, 41, 2):
        client.open(stream, raw.fields(raw.INFER))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.upload(stream, body)
    await stop.wait()


async def starved(client: raw.RawClient, stop: asyncio.Event) -> None:
    """Leave no window for any answer."""
    client.send(raw.settings((4, 0)))
    for stream in range(1, 1001, 2):
        client.call(stream)
    await stop.wait()


async def half(client: raw.RawClient, stop: asyncio.Event) -> None:
    """Stop sending, and stay."""
    client.call(1, raw.fields(raw.INFER), raw.message(infer_message()))
    client.writer.write_eof()
    await stop.wait()


async def fickle(client: raw.RawClient, stop: asyncio.Event) -> None:
    """Begin calls and cancel them."""
    message = raw.message(infer_message())
    for stream in range(1, 100_001, 2):
        if stop.is_set() or client.writer.is_closing():
            return
        client.call(stream, raw.fields(raw.INFER), message)
        client.send(frame(raw.RST_STREAM, 0, stream, struct.pack(">L", raw.CANCEL)))
        await asyncio.sleep(0.002)


async def flooding(client: raw.RawClient, stop: asyncio.Event) -> None:
    """Send pings without end."""
    while not stop.is_set() and not client.writer.is_closing():
        client.send(frame(raw.PING, 0, 0, bytes(8)) * 50)
        await asyncio.sleep(0.005)


async def endless(client: raw.RawClient, stop: asyncio.Event) -> None:
    """Send a header block that does not end."""
    client.send(frame(HEADERS, 0, 1, b""))
    while not stop.is_set() and not client.writer.is_closing():
        client.send(frame(CONTINUATION, 0, 1, b""))
        await asyncio.sleep(0.01)


async def broken(client: raw.RawClient, stop: asyncio.Event) -> None:
    """Send what no decoder reads."""
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff" * 20))
    await stop.wait()


BAD = (slow, deaf, starved, half, fickle, flooding, endless, broken)


async def test_a_good_client_among_24_bad_ones_gets_every_answer() -> None:
    plane = StubPlane(echo("m", FP32))
    stop = asyncio.Event()

    async def behave_badly(front: GrpcFrontEnd, number: int) -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError, AssertionError, TimeoutError):
                async with raw.connection(front.port) as client:
                    await BAD[number % len(BAD)](client, stop)
            await asyncio.sleep(0.05)

    async with lane(plane, memory_mb=64, max_request_mb=16) as front:
        bad = [asyncio.ensure_future(behave_badly(front, number)) for number in range(24)]
        async with channel(front.port) as opened:
            await until(lambda: len(connections_of(front)) >= 12)
            worst = 0.0
            for number in range(GOOD_CALLS):
                array = np.full((2, 3), number, np.float32)
                began = time.monotonic()
                answer = await infer(opened, raw_request("m", ("FP32", array)))
                worst = max(worst, time.monotonic() - began)
                assert answer.raw_output_contents == [array.tobytes()]
            assert isinstance(answer, pb.ModelInferResponse)
        stop.set()
        await asyncio.wait(bad, timeout=raw.WAIT_S)
        await until(lambda: not connections_of(front))
        shared = engine_of(front)._shared
        await until(lambda: shared.budget.left == 64 << 20 and not shared.tasks)
        print(f"the slowest good call took {worst * 1000:.1f} ms")
        assert worst < raw.WAIT_S / 2
    assert plane.released + plane.abandoned >= len(plane.requests)
