"""What one client sends at once is read in turns, between which the others are heard."""

from __future__ import annotations

import asyncio

import pytest

from serving.frontends.grpc.lane import connection
from serving.frontends.grpc.lane.connection import Connection
from serving.frontends.grpc.lane.streams import Streams

from . import raw
from .raw import DATA, END_HEADERS, END_STREAM, HEADERS, PING, frame
from .running import connections_of, infer_message, lane


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """Let every turn be the shortest; returns who has had further ones."""
    monkeypatch.setattr(connection, "TURN_S", -1.0)
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
        assert len(turns) >= count // 16 - 1
        await client.alive(1)


async def test_others_are_heard_between_the_turns_of_one(turns: list[Connection]) -> None:
    async with lane() as front, raw.connection(front.port) as client:
        (known,) = connections_of(front)
        count = 640
        others = 0

        def another() -> None:
            nonlocal others
            others += 1
            if known._progress < count:
                asyncio.get_running_loop().call_soon(another)

        before = known._progress
        read = b"".join(frame(PING, 0, 0, n.to_bytes(8)) for n in range(count))
        asyncio.get_running_loop().call_soon(another)
        known.data_received(read)
        assert known._progress - before <= 16
        known.data_received(frame(PING, 0, 0, b"the last"))  # what was under way already
        while (await client.until(PING)).payload != b"the last":
            pass
        assert others >= count // 16 - 1


async def test_frames_that_cost_an_allowance_are_read_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "TURN_S", 1e9)
    async with lane() as front, raw.connection(front.port) as client:
        (known,) = connections_of(front)
        before = known._progress
        known.data_received(frame(PING, 0, 0, bytes(8)) * 500)
        assert known._progress - before <= connection.TURN_SPENT
        await client.ping()
        assert known._progress - before > 500


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
        known.data_received(frame(PING, 0, 0, bytes(8)) * 100)
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
        known.data_received(frame(PING, 0, 0, bytes(8)) * 100 + begun)
        assert await client.end() is None
        assert len(turns) > 1
    assert "is given up" in caplog.text
