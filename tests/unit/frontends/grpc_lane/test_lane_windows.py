"""Flow control of the lane in both directions, once answers go out the short way."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from serving.frontends.grpc.lane import parked, streams
from serving.tensor import FP32
from tests.doubles.plane import StubPlane
from tests.unit.frontends.grpc.running import until
from tests.unit.frontends.grpc.served import echo

from . import raw
from .raw import DATA, END_STREAM, HEADERS, frame
from .running import connections_of, infer_message, lane

INFER_FIELDS = raw.fields(raw.INFER)
MIB = 1 << 20


async def test_a_streams_window_holds_an_answer_that_would_go_out_at_once() -> None:
    async with lane() as front, raw.connection(front.port) as client:
        await client.alive(1)
        client.send(raw.settings((4, 3)))
        client.call(3)
        assert (await client.until(DATA, 3)).payload == b"\0\0\0"
        await client.ping()
        assert len([f for f in client.seen if f.stream == 3]) == 2
        client.send(raw.window(3, 4))
        assert (await client.until(DATA, 3)).payload == b"\0\x02\x08\x01"


async def test_the_connections_window_is_used_up_by_answers_that_go_out_at_once() -> None:
    """65,535 bytes are five of these answers and a part of the sixth."""
    body = raw.message(infer_message(np.zeros(3000, np.float32)))
    async with lane() as front, raw.connection(front.port) as client:
        await client.alive(1)
        for stream in range(3, 15, 2):
            client.call(stream, INFER_FIELDS, body)
        await client.until(DATA, 13)
        await client.ping()
        sent = sum(len(f.payload) for f in client.seen if f.kind == DATA)
        assert sent == 65_535
        assert not [f for f in client.seen if f.stream == 13 and f.flags & END_STREAM]
        client.send(raw.window(0, 65_535))
        assert (await client.answer(13)).fields["grpc-status"] == "0"


async def test_header_blocks_need_no_window() -> None:
    async with lane() as front, raw.connection(front.port) as client:
        body = raw.message(infer_message(np.zeros(20_000, np.float32)))
        client.windows[0], client.initial_window = 16 * MIB, MIB
        client.open(1, INFER_FIELDS)
        await client.upload(1, body)
        await client.until(DATA, 1)
        client.call(3, raw.fields("/no.Such/Method"))
        assert (await client.answer(3)).fields["grpc-status"] == "12"


async def test_streams_that_wait_take_turns() -> None:
    body = raw.message(infer_message(np.zeros(50_000, np.float32)))
    async with lane() as front, raw.connection(front.port, (4, MIB)) as client:
        client.windows[0], client.initial_window = 16 * MIB, MIB
        for stream in (1, 3, 5):
            client.open(stream, INFER_FIELDS)
            await client.upload(stream, body)
        await client.ping()
        client.send(raw.window(0, MIB))
        for stream in (1, 3, 5):
            while not any(f.stream == stream and f.flags & END_STREAM for f in client.seen):
                assert await client.next()
    later = [f.stream for f in client.seen if f.kind == DATA]
    first_end = next(i for i, f in enumerate(client.seen) if f.stream and f.flags & END_STREAM)
    assert {f.stream for f in client.seen[:first_end] if f.kind == DATA} == {1, 3, 5}
    assert len(later) > 30


async def test_the_connections_own_window_is_filled_up_by_what_was_used() -> None:
    body = raw.message(infer_message(np.zeros(250_000 - 50, np.float32)))
    async with lane() as front, raw.connection(front.port) as client:
        client.windows[0], client.initial_window = 16 * MIB, MIB
        client.send(raw.window(0, 1 << 30), raw.settings((4, 1 << 30)))
        reading = asyncio.ensure_future(_read_all(client))
        for stream in range(1, 25, 2):
            client.open(stream, INFER_FIELDS)
            await client.upload(stream, body)
        await until(lambda: sum(f.kind == HEADERS for f in client.seen) == 24)
        reading.cancel()
        given = [f.number for f in client.seen if (f.kind, f.stream) == (raw.WINDOW_UPDATE, 0)]
    opening, *later = given
    assert opening == 16 * MIB - 65_535
    assert len(later) == 1
    assert 8 * MIB < later[0] <= 8 * MIB + 16_384


async def _read_all(client: raw.RawClient) -> None:
    while await client.next():
        pass


async def test_parked_calls_that_fail_at_once_do_not_nest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BACKLOG_BYTES", 1 << 16)
    monkeypatch.setattr(parked, "BACKLOG_BYTES", 1 << 16)
    plane = StubPlane(echo("m", FP32))
    large = raw.message(infer_message(np.zeros(60_000, np.float32)))
    async with lane(plane) as front, raw.connection(front.port, (4, MIB)) as client:
        client.windows[0], client.initial_window = 16 * MIB, MIB
        client.open(1, INFER_FIELDS)
        await client.upload(1, large)
        await until(lambda: plane.released == 1)
        for stream in range(3, 1603, 2):
            client.call(stream, INFER_FIELDS, raw.message(b"\xff"))
        (known,) = connections_of(front)
        await until(lambda: len(known._streams._parked.waiting) == 800)
        client.send(raw.window(0, MIB))
        answered = 0
        while answered < 801:
            found = await client.next()
            assert found is not None
            answered += found.kind == HEADERS and bool(found.flags & END_STREAM)
        assert not known._streams._parked.waiting


async def test_a_call_reset_while_its_answer_waits_leaves_nothing() -> None:
    async with lane() as front, raw.connection(front.port, (4, 3)) as client:
        client.call(1)
        await client.until(DATA, 1)
        client.send(raw.settings((4, 4)), frame(raw.RST_STREAM, 0, 1, bytes(4)))
        await client.ping()
        (known,) = connections_of(front)
        assert (known._out.backlog, len(known._out._waiting), len(known._streams)) == (0, 0, 0)
