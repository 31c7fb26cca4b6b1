"""Clients that cost the lane more than themselves are told so, and bounded in what they hold."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import numpy as np
import pytest

from serving.frontends.grpc.lane import connection, outgoing, parked, reader, server, streams
from serving.frontends.grpc.reflection import V1
from serving.frontends.grpc.server import GrpcFrontEnd
from serving.tensor import FP32
from tests.doubles.plane import StubPlane
from tests.unit.frontends.grpc.running import until
from tests.unit.frontends.grpc.served import echo

from . import raw
from .raw import CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, frame
from .running import HeldPlane, connections_of, engine_of, infer_message, lane

INFER_FIELDS = raw.fields(raw.INFER)
RESET = struct.pack(">L", raw.CANCEL)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the lane wait for tenths of a second where it waits for a minute."""
    monkeypatch.setattr(server, "SWEEP_S", 0.05)
    monkeypatch.setattr(connection, "OPENING_TIMEOUT_S", 0.3)
    monkeypatch.setattr(connection, "STALL_TIMEOUT_S", 0.3)
    monkeypatch.setattr(streams, "SILENCE_S", 0.3)


@pytest.mark.parametrize("sent", [b"", raw.PREFACE[:10], raw.PREFACE, raw.PREFACE + b"\0\0\6"])
@pytest.mark.usefixtures("hurried")
async def test_a_client_that_does_not_greet_is_dropped(sent: bytes) -> None:
    async with lane() as front, raw.connection(front.port, hello=False) as client:
        client.send(sent)
        await client.end()
        await until(lambda: not connections_of(front))


@pytest.mark.parametrize(
    "sent",
    [frame(HEADERS, 0, 1, b"\x82"), b"\0", frame(DATA, 0, 1, bytes(1000))[:500]],
    ids=["block", "head", "frame"],
)
@pytest.mark.usefixtures("hurried")
async def test_a_client_that_leaves_a_frame_or_block_open_is_dropped(sent: bytes) -> None:
    async with lane() as front, raw.connection(front.port) as client:
        client.send(sent)
        await client.end()


@pytest.mark.usefixtures("hurried")
async def test_a_client_that_is_idle_is_not() -> None:
    async with lane() as front, raw.connection(front.port) as client:
        await client.alive(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await client.next()
        await client.alive(3)


@pytest.mark.usefixtures("hurried")
async def test_a_call_whose_message_does_not_come_ends_and_its_neighbours_do_not() -> None:
    plane = HeldPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        client.call(1, INFER_FIELDS, raw.message(infer_message()))
        client.open(3)
        client.send(frame(DATA, 0, 3, b"\0\0"))
        answer = await client.answer(3)
        assert answer.fields["grpc-status"] == "4"
        assert "nothing of the request" in answer.fields["grpc-message"]
        await until(lambda: len(plane.claims) == 1)
        plane.answer()
        assert (await client.answer(1)).fields["grpc-status"] == "0"


@pytest.mark.usefixtures("hurried")
async def test_an_answer_that_a_window_keeps_from_going_out_is_given_up() -> None:
    async with lane() as front, raw.connection(front.port, (4, 0)) as client:
        client.call(1)
        assert await client.end_of_stream(1) == raw.CANCEL
        client.send(raw.settings((4, 1000)))
        await client.alive(3)


@pytest.mark.usefixtures("hurried")
async def test_a_client_that_reads_nothing_is_dropped() -> None:
    plane = StubPlane(echo("m", FP32))
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with lane(plane) as front:
            deaf.connect(("127.0.0.1", front.port))
            deaf.setblocking(False)
            async with raw.connection(sock=deaf, limit=1 << 10) as client:
                client.send(raw.window(0, 1 << 30), raw.settings((4, 1 << 30)))
                client.windows[0], client.initial_window = 16 << 20, 1 << 20
                body = raw.message(infer_message(np.zeros(200_000, np.float32)))
                with contextlib.suppress(ConnectionError):  # it may be dropped before all is sent
                    await _send_calls(client, 16, body)
                await until(lambda: not connections_of(front))
    assert plane.released == len(plane.requests) > 0


async def test_blocks_without_end_are_cut_by_size() -> None:
    async with lane() as front, raw.connection(front.port) as client:
        client.send(frame(HEADERS, 0, 1, client.block(raw.fields())))
        for _ in range(3):
            client.send(frame(CONTINUATION, 0, 1, b"\0\x01x\x01y" * 3000))
        assert await client.end() == ENHANCE_YOUR_CALM


async def test_blocks_without_end_are_cut_by_number() -> None:
    async with lane() as front, raw.connection(front.port) as client:
        client.send(frame(HEADERS, 0, 1, client.block(raw.fields())))
        client.send(frame(CONTINUATION, 0, 1) * 17)
        assert await client.end() == ENHANCE_YOUR_CALM


@pytest.mark.parametrize("between", [b"", frame(raw.PING, raw.ACK, 0, bytes(8))])
async def test_calls_begun_and_reset_at_once_end_the_connection(
    between: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CVE-2023-44487, rapid reset: far more than anybody gives up at once."""
    monkeypatch.setattr(reader, "RESETS", (200, 0.0))
    plane = HeldPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        body = frame(DATA, END_STREAM, 1, raw.message(infer_message()))
        first = client.block(INFER_FIELDS)
        again = client.block(INFER_FIELDS)
        sent = b""
        for index in range(300):
            stream = 2 * index + 1
            head = frame(HEADERS, END_HEADERS, stream, again if index else first)
            rest = frame(DATA, END_STREAM, stream, body[9:])
            sent += head + rest + between + frame(raw.RST_STREAM, 0, stream, RESET)
        client.send(sent)
        assert await client.end() == ENHANCE_YOUR_CALM
        assert plane.abandoned == len(plane.requests)
        # What is taken back by the very next frame is not begun, unless a read ends between them.
        assert len(plane.requests) == 201 if between else len(plane.requests) < 10


async def test_a_call_that_another_one_is_reset_behind_is_run() -> None:
    async with lane() as front, raw.connection(front.port) as client:
        client.open(1, INFER_FIELDS)
        client.open(3, INFER_FIELDS)
        body = frame(DATA, END_STREAM, 3, raw.message(infer_message()))
        client.send(body + frame(raw.RST_STREAM, 0, 1, RESET))
        assert (await client.answer(3)).fields["grpc-status"] == "0"


async def test_calls_that_the_client_makes_the_server_reset_count_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CVE-2025-8671, MadeYouReset: the client breaks a rule on each call."""
    monkeypatch.setattr(reader, "RESETS", (200, 0.0))
    plane = HeldPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        first = client.block(INFER_FIELDS)
        again = client.block(INFER_FIELDS)
        message = raw.message(infer_message())
        for index in range(300):
            stream = 2 * index + 1
            head = frame(HEADERS, END_HEADERS, stream, again if index else first)
            client.send(head, frame(DATA, END_STREAM, stream, message), raw.window(stream, 0))
        assert await client.end() == ENHANCE_YOUR_CALM
        assert plane.abandoned == len(plane.requests) == 201


@pytest.mark.parametrize(
    "flood",
    [
        frame(raw.PING, 0, 0, bytes(8)),
        frame(raw.PING, raw.ACK, 0, bytes(8)),
        frame(raw.SETTINGS, 0, 0),
        frame(raw.SETTINGS, raw.ACK, 0),
        frame(raw.PRIORITY, 0, 1, bytes(5)),
        frame(0x42, 0, 1, b""),
        frame(DATA, 0, 1, b""),
        frame(DATA, raw.PADDED, 1, b"\xff" + bytes(255)),
    ],
    ids=["ping", "pong", "settings", "acks", "priority", "unknown", "empty", "padding"],
)
async def test_floods_of_frames_that_say_nothing_end_the_connection(flood: bytes) -> None:
    async with lane() as front, raw.connection(front.port) as client:
        client.open(1)
        client.send(flood * 100)
        await client.ping()
        client.send(flood * 3000)
        assert await client.end() == ENHANCE_YOUR_CALM


async def test_pings_are_earned_by_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """As gRPC for Go does it: a PING for every round trip, while answers come."""
    monkeypatch.setattr(reader, "ANSWERED", (20, 0.0))
    async with lane() as front, raw.connection(front.port) as client:
        for stream in range(1, 401, 2):
            client.send(frame(raw.PING, 0, 0, bytes(8)))
            await client.alive(stream)
        client.send(frame(raw.PING, 0, 0, bytes(8)) * 21)
        assert await client.end() == ENHANCE_YOUR_CALM


async def test_pings_are_earned_by_long_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "ANSWERED", (20, 0.0))
    body = raw.message(infer_message(np.zeros(200_000, np.float32)))
    async with lane() as front, raw.connection(front.port) as client:
        client.windows[0], client.initial_window = 16 << 20, 1 << 20
        client.open(1, INFER_FIELDS)
        await client.upload(1, body)
        client.send(raw.settings((4, 1 << 20)))
        for _ in range(40):
            client.send(raw.window(0, 1 << 14), frame(raw.PING, 0, 0, bytes(8)))
            await client.until(DATA, 1)
        await client.ping()


async def test_resets_are_earned_by_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "RESETS", (20, 0.0))
    async with lane() as front, raw.connection(front.port) as client:
        for stream in range(1, 401, 4):
            client.open(stream)
            client.send(frame(raw.RST_STREAM, 0, stream, RESET))
            await client.alive(stream + 2)


def test_what_is_allowed_at_once_is_far_more_than_clients_do() -> None:
    for burst, per_second in (reader.RESETS, reader.ANSWERED, reader.EMPTY):
        assert burst >= 1000
        assert per_second >= 100


async def test_floods_are_forgiven_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "ANSWERED", (20, 1000.0))
    async with lane() as front, raw.connection(front.port) as client:
        for _ in range(60):
            await client.ping()
            await asyncio.sleep(0.002)
        await client.alive(1)


async def test_answers_that_are_not_read_keep_further_calls_from_being_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "BACKLOG_BYTES", 1 << 20)
    monkeypatch.setattr(parked, "BACKLOG_BYTES", 1 << 20)
    size = 1 << 20
    plane = StubPlane(echo("m", FP32))
    async with lane(plane) as front, raw.connection(front.port, (4, 1 << 30)) as client:
        body = raw.message(infer_message(np.zeros(size // 4, np.float32)))
        count = 30
        writing = asyncio.ensure_future(_send_calls(client, count, body))
        reading = asyncio.ensure_future(_count_answers(client, count))
        await until(lambda: plane.released >= 1 and _parked(front) > 0)
        begun = len(plane.requests)
        assert begun < 10
        client.send(raw.window(0, 1 << 30))
        await writing
        await asyncio.wait_for(reading, 30)
        assert len(plane.requests) == plane.released == count


def _parked(front: GrpcFrontEnd) -> int:
    return sum(len(known._streams._parked.waiting) for known in connections_of(front))


async def _send_calls(client: raw.RawClient, count: int, body: bytes) -> None:
    for index in range(count):
        client.open(2 * index + 1, INFER_FIELDS)
        await client.upload(2 * index + 1, body)


async def _count_answers(client: raw.RawClient, count: int) -> None:
    """Read until so many answers have come, and nothing else that ends a call."""
    while count:
        found = await client.next()
        assert found is not None
        assert found.kind not in (raw.GOAWAY, raw.RST_STREAM), found
        count -= found.kind == HEADERS and bool(found.flags & END_STREAM)


async def test_unfinished_requests_are_bounded_together() -> None:
    async with lane(max_request_mb=1, memory_mb=1) as front, raw.connection(front.port) as client:
        prefix = b"\0" + (1_000_000).to_bytes(4)
        held = prefix + bytes(600_000)
        for stream in (1, 3):
            client.open(stream, INFER_FIELDS)
            for start in range(0, len(held), 16384):
                client.send(frame(DATA, 0, stream, held[start : start + 16384]))
        answer = await client.answer(3)
        assert answer.fields["grpc-status"] == "8"
        assert "too many large requests" in answer.fields["grpc-message"]
        client.send(frame(raw.RST_STREAM, 0, 1, RESET))
        await client.ping()
        assert engine_of(front)._shared.budget.left == 1 << 20
        await client.alive(5)


async def test_half_of_a_window_is_used_before_it_is_widened() -> None:
    async with lane() as front, raw.connection(front.port) as client:
        client.open(1, INFER_FIELDS)
        client.send(frame(DATA, 0, 1, b"\0" + (50 << 20).to_bytes(4)))
        piece = frame(DATA, 0, 1, bytes(16384))
        client.send(piece * ((1 << 20) // 16384 // 2 - 1))
        await client.ping()
        assert not [f for f in client.seen if f.kind == raw.WINDOW_UPDATE and f.stream == 1]
        client.send(piece)
        assert (await client.until(raw.WINDOW_UPDATE, 1)).number == 5 + (1 << 19)


async def test_a_client_that_overruns_its_window_loses_the_call() -> None:
    """A stream of questions whose answers it does not take: no window is given back."""
    questions = b"".join(raw.message(b"\x3a\0") for _ in range(2000))
    async with lane() as front, raw.connection(front.port, (4, 0)) as client:
        client.open(1, raw.fields(f"/{V1}/ServerReflectionInfo"))
        for _ in range((1 << 20) // len(questions)):
            client.send(frame(DATA, 0, 1, questions))
            await client.ping()
        client.send(frame(DATA, 0, 1, questions))
        assert await client.end_of_stream(1) == raw.FLOW_CONTROL_ERROR
        client.send(raw.settings((4, 1000)))
        await client.alive(3)


def test_the_backlog_that_streams_look_at_is_the_one_that_outgoing_names() -> None:
    assert streams.BACKLOG_BYTES == parked.BACKLOG_BYTES == outgoing.BACKLOG_BYTES
