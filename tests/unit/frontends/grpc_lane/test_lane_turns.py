"""What one client sends at once is read in turns, between which the others are heard."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest

from serving.frontends.grpc.lane import reader
from serving.frontends.grpc.lane.connection import Connection
from serving.frontends.grpc.lane.streams import Streams
from tests.unit.frontends.grpc.running import until

from . import raw
from .raw import DATA, END_HEADERS, END_STREAM, HEADERS, PING, frame
from .running import connections_of, feed, infer_message, lane


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """Let every turn be the shortest; returns who has had further ones."""
    monkeypatch.setattr(reader, "TURN_S", -1.0)
    had: list[Connection] = []
    go_on = Connection._go_on

    def counted(self: Connection) -> None:
        had.append(self)
        go_on(self)

    monkeypatch.setattr(Connection, "_go_on", counted)
    return had


async def test_a_long_read_is_cut_into_turns_and_nothing_of_it_is_lost(
    turns: list[Connection],
) -> None:
    async with lane() as front, raw.connection(front.port) as client:
        count = 300
        client.send(b"".join(frame(PING, 0, 0, n.to_bytes(8)) for n in range(count)))
        for number in range(count):
            found = await client.until(PING)
            assert int.from_bytes(found.payload) == number
        assert len(turns) >= count // 8 - 1
        await client.alive(1)


async def test_others_are_heard_between_the_turns_of_one(turns: list[Connection]) -> None:
    async with lane() as front, raw.connection(front.port) as client:
        (known,) = connections_of(front)
        count = 640
        others = 0

        def another() -> None:
            nonlocal others
            others += 1
            if known._reader.progress < count:
                asyncio.get_running_loop().call_soon(another)

        before = known._reader.progress
        read = b"".join(frame(PING, 0, 0, n.to_bytes(8)) for n in range(count))
        asyncio.get_running_loop().call_soon(another)
        feed(known, read)
        assert known._reader.progress - before <= 8
        feed(known, frame(PING, 0, 0, b"the last"))  # what was under way already
        while (await client.until(PING)).payload != b"the last":
            pass
        assert others >= count // 8 - 1


async def test_those_who_wait_go_on_in_turn_and_one_at_a_time(turns: list[Connection]) -> None:
    """However many clients flood the server, a good one's frame waits for a turn of one of them."""
    count, frames = 6, 200
    async with contextlib.AsyncExitStack() as stack:
        front = await stack.enter_async_context(lane())
        for _ in range(count):
            client = await stack.enter_async_context(raw.connection(front.port))
            await client.ping()  # so that nothing of its greeting is still to come
        flooding = connections_of(front)
        assert len(flooding) == count
        await until(lambda: not any(known._held for known in flooding))
        turns.clear()
        before = [known._reader.progress for known in flooding]
        for known in flooding:
            feed(known, frame(PING, 0, 0, bytes(8)) * frames)
        seen = [0]
        while any(known._held for known in flooding):
            await asyncio.sleep(0)
            seen.append(len(turns))
        assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(seen))
        assert turns[:count] == turns[count : 2 * count] == flooding
        read = [known._reader.progress for known in flooding]
        assert [after - was for after, was in zip(read, before, strict=True)] == [frames] * count


async def test_a_client_that_fills_a_read_lets_the_others_have_a_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "TURN_S", 1e9)  # a busy machine would end one earlier
    async with lane() as front, raw.connection(front.port) as client:
        (known,) = connections_of(front)
        client.open(1, raw.fields(raw.INFER))
        await client.ping()
        long = b"\0" + (50 << 20).to_bytes(4) + bytes(600_000)
        sent = b"".join(
            frame(DATA, 0, 1, long[at : at + 16_384]) for at in range(0, len(long), 16_384)
        )
        room = len(known.get_buffer(-1))
        feed(known, sent[: room - 1])
        assert not known._held
        feed(known, sent[room - 1 : room - 1 + len(known.get_buffer(-1))])
        assert known._held
        await until(lambda: not known._held)


async def test_frames_that_cost_an_allowance_are_read_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "TURN_S", 1e9)
    async with lane() as front, raw.connection(front.port) as client:
        (known,) = connections_of(front)
        before = known._reader.progress
        feed(known, frame(PING, 0, 0, bytes(8)) * 500)
        assert known._reader.progress - before <= reader.TURN_SPENT
        await client.ping()
        assert known._reader.progress - before > 500


@pytest.mark.usefixtures("turns")
async def test_calls_and_long_messages_come_whole_in_turns() -> None:
    message = raw.message(infer_message())
    async with lane() as front, raw.connection(front.port) as client:
        first = client.block(raw.fields(raw.INFER))
        again = client.block(raw.fields(raw.INFER))
        sent = b""
        for index in range(100):
            stream = 2 * index + 1
            sent += frame(HEADERS, END_HEADERS, stream, again if index else first)
            sent += frame(DATA, 0, stream, message[:7])
            sent += frame(DATA, END_STREAM, stream, message[7:])
        client.send(sent)
        ends = 0
        while ends < 100:
            found = await client.next()
            assert found is not None
            assert found.kind in (HEADERS, DATA), found
            ends += bool(found.flags & END_STREAM)


async def test_a_client_that_goes_in_the_midst_of_its_turns_is_forgotten(
    turns: list[Connection],
) -> None:
    async with lane() as front, raw.connection(front.port) as client:
        (known,) = connections_of(front)
        feed(known, frame(PING, 0, 0, bytes(8)) * 100)
        assert known._held
        known.abort()
        assert await client.end() is None
        assert turns == [known]


async def test_a_fault_of_the_server_in_a_later_turn_ends_the_connection(
    turns: list[Connection], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Streams, "headers", fail)
    async with lane() as front, raw.connection(front.port) as client:
        (known,) = connections_of(front)
        begun = frame(HEADERS, END_HEADERS, 1, client.block(raw.fields()))
        feed(known, frame(PING, 0, 0, bytes(8)) * 100 + begun)
        assert await client.end() is None
        assert len(turns) > 1
    assert "is given up" in caplog.text
