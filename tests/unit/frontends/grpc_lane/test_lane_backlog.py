"""Answers that clients do not take: whose turn it is, what may wait, and what waits behind them."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from serving.frontends.grpc.lane import outgoing, parked, streams
from serving.frontends.grpc.lane.outgoing import Outgoing
from serving.tensor import FP32
from tests.doubles.plane import StubPlane
from tests.unit.frontends.grpc.running import until
from tests.unit.frontends.grpc.served import echo

from . import raw
from .raw import DATA, END_STREAM, HEADERS, frame
from .running import connections_of, engine_of, infer_message, lane

INFER_FIELDS = raw.fields(raw.INFER)
RESET = struct.pack(">L", raw.CANCEL)
NO_WINDOW = (4, 0)


def body(size: int) -> bytes:
    return raw.message(infer_message(np.zeros(size // 4, np.float32)))


async def call(client: raw.RawClient, stream: int, data: bytes) -> None:
    """Make a call whose message is longer than a frame; all of it fits into the windows."""
    client.open(stream, INFER_FIELDS)
    for start in range(0, len(data), 16384):
        end = END_STREAM if start + 16384 >= len(data) else 0
        client.send(frame(DATA, end, stream, data[start : start + 16384]))
    await client.ping()


async def test_calls_that_stood_back_go_on_when_those_before_are_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "BACKLOG_BYTES", 100_000)
    monkeypatch.setattr(parked, "BACKLOG_BYTES", 100_000)
    plane = StubPlane(echo("m", FP32))
    async with lane(plane) as front, raw.connection(front.port, NO_WINDOW) as client:
        await call(client, 1, body(200_000))
        await until(lambda: plane.released == 1)
        await call(client, 3, body(400))
        assert len(plane.requests) == 1
        client.send(frame(raw.RST_STREAM, 0, 1, RESET))
        await until(lambda: plane.released == 2)
        client.send(raw.settings((4, 65_535)))
        assert (await client.answer(3)).fields["grpc-status"] == "0"
        (known,) = connections_of(front)
        assert not known._streams._parked.waiting
        assert known._out.backlog == 0


async def test_streams_take_turns_whatever_the_connection_lets_through() -> None:
    async with lane() as front, raw.connection(front.port, (4, 1 << 20)) as client:
        await call(client, 3, body(100_000))  # takes all of the connection's first window
        while sum(len(f.payload) for f in client.seen if f.kind == DATA) < 65_535:
            await client.next()
        client.send(frame(raw.RST_STREAM, 0, 3, RESET))
        for stream in (5, 7, 9):
            await call(client, stream, body(100_000))
        order = []
        for _ in range(6):
            client.send(raw.window(0, 16_384))
            while (found := await client.next()) is not None and found.kind != DATA:
                pass
            assert found is not None
            order.append(found.stream)
        assert set(order[:3]) == set(order[3:]) == {5, 7, 9}


async def test_a_window_that_is_widened_byte_by_byte_does_not_cost_a_look_at_every_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0
    look = Outgoing._send_some

    def counted(self: Outgoing, stream: Any) -> None:
        nonlocal looks
        looks += 1
        look(self, stream)

    monkeypatch.setattr(Outgoing, "_send_some", counted)
    plane = StubPlane(echo("m", FP32))
    async with lane(plane) as front, raw.connection(front.port, (4, 1 << 20)) as client:
        await call(client, 1, body(100_000))
        count = 500
        for index in range(1, count + 1):
            client.call(2 * index + 1, INFER_FIELDS, body(40))
        await until(lambda: plane.released == count + 1)
        looks = 0
        client.send(raw.window(0, 1) * 300)
        await client.ping()
        assert looks <= 600


async def test_answers_that_nobody_reads_are_bounded_together() -> None:
    plane = StubPlane(echo("m", FP32))
    async with (
        lane(plane, max_request_mb=1, memory_mb=1) as front,
        raw.connection(front.port, NO_WINDOW) as one,
        raw.connection(front.port, NO_WINDOW) as other,
    ):
        unread = engine_of(front)._shared.unread
        await call(one, 1, body(400_000))
        await call(one, 3, body(400_000))
        await until(lambda: plane.released == 2)
        assert unread.left < 400_000
        await call(other, 1, body(400_000))
        answer = await other.answer(1)
        assert answer.fields["grpc-status"] == "8"
        assert "that do not read them" in answer.fields["grpc-message"]
        one.send(frame(raw.RST_STREAM, 0, 1, RESET))
        await one.ping()
        await call(other, 3, body(400_000))
        other.send(raw.window(0, 1 << 20), raw.window(3, 1 << 20))
        assert (await other.answer(3)).fields["grpc-status"] == "0"
        one.send(frame(raw.RST_STREAM, 0, 3, RESET))
        await one.ping()
        assert unread.left == 1 << 20


async def test_a_deadline_before_anything_could_be_sent_ends_a_stream_in_one_block() -> None:
    watch = raw.fields("/grpc.health.v1.Health/Watch")
    async with lane() as front, raw.connection(front.port) as client:
        (known,) = connections_of(front)
        known.pause_writing()
        client.call(1, [*watch, ("grpc-timeout", "50m")])
        await until(lambda: len(known._streams) == 1)
        (stream,) = known._streams._live.values()
        await until(lambda: stream.ending)
        known.resume_writing()
        answer = await client.answer(1)
        assert (answer.fields[":status"], answer.fields["grpc-status"]) == ("200", "4")
        assert [f.kind for f in client.seen if f.stream == 1] == [HEADERS]


def test_what_may_wait_for_one_client_is_far_less_than_for_all() -> None:
    assert 100 * outgoing.BACKLOG_BYTES < 2048 << 20
