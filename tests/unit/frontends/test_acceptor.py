"""Connections are shared out between those that wait on one socket, and none is left lying."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from serving.frontends import acceptor
from serving.frontends.acceptor import ABSENT, Acceptor, Shares
from serving.frontends.rest.listening import listen


class _Connection(asyncio.Protocol):
    def __init__(self, side: _Side) -> None:
        self._side = side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._side.transports.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._side.transports = {t for t in self._side.transports if not t.is_closing()}


class _Side:
    """One of the processes, if each had one of its own."""

    def __init__(self, listener: socket.socket, page: int, place: int, places: int) -> None:
        self.transports: set[Any] = set()
        self.shares = Shares(page, places, place)
        self.acceptor = Acceptor(
            [listener.dup()], self.shares, lambda: _Connection(self), self.count, {}
        )

    def count(self) -> int:
        return len(self.transports)


class _Both:
    def __init__(self) -> None:
        self.listener = listen("127.0.0.1", 0)
        self.page = Shares.create(2)
        self.sides = [_Side(self.listener, self.page, place, 2) for place in range(2)]
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self, times: int) -> None:
        address = self.listener.getsockname()
        opened = [asyncio.open_connection(*address) for _ in range(times)]
        self.writers += [writer for _, writer in await asyncio.gather(*opened)]

    def counts(self) -> list[int]:
        return [side.count() for side in self.sides]


@pytest.fixture
async def both() -> AsyncIterator[_Both]:
    made = _Both()
    yield made
    for writer in made.writers:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    for side in made.sides:
        side.acceptor.close()
        await side.acceptor.wait_closed()
        for transport in list(side.transports):
            transport.abort()
    await asyncio.sleep(0)
    for side in made.sides:
        side.shares.close()
    os.close(made.page)
    made.listener.close()


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not there():
            await asyncio.sleep(0.002)


async def test_connections_that_come_together_are_shared_out(both: _Both) -> None:
    for side in both.sides:
        side.acceptor.start()
    await both.connect(20)
    await until(lambda: sum(both.counts()) == 20)
    assert both.counts() == [10, 10]


async def test_one_that_is_alone_takes_all(both: _Both) -> None:
    both.sides[0].acceptor.start()
    await both.connect(12)
    await until(lambda: both.counts() == [12, 0])


async def test_one_that_does_not_come_for_them_leaves_them_to_the_other(both: _Both) -> None:
    both.sides[0].acceptor.start()
    both.sides[1].shares.tell(0)  # there, as far as anybody knows, but held up
    await both.connect(6)
    await until(lambda: both.counts() == [6, 0])


async def test_newcomer_catches_up(both: _Both) -> None:
    both.sides[0].acceptor.start()
    await both.connect(8)
    await until(lambda: both.counts() == [8, 0])
    both.sides[1].acceptor.start()
    await both.connect(6)
    await until(lambda: both.counts() == [8, 6])


async def test_closed_one_takes_no_more_and_is_absent(both: _Both) -> None:
    for side in both.sides:
        side.acceptor.start()
    both.sides[0].acceptor.close()
    await both.connect(5)
    await until(lambda: both.counts() == [0, 5])
    both.sides[1].shares.tell(ABSENT)
    assert both.sides[1].shares.excess == 0, "nobody is there"


async def test_connections_leave_descriptors_for_memory(
    both: _Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three that are left one is kept, whoever waits."""
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection(both.listener.getsockname()))
        left = [os.dup(both.page) for _ in range(3)]
        for fd in left:
            os.close(fd)
        most = [left[-1] + 1]
        monkeypatch.setattr(acceptor, "_MOST_KEPT", 1)
        monkeypatch.setattr(acceptor.resource, "getrlimit", lambda _: (most[0], -1))
        both.sides[0].acceptor.start()
        await until(lambda: both.counts() == [2, 0])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await until(lambda: both.counts() != [2, 0])
        most[0] = -1  # no limit
        await until(lambda: both.counts() == [3, 0])


async def test_unix_socket_is_shared_as_well(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = str(tmp_path_factory.mktemp("u") / "s")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(8)
    page = Shares.create(1)
    side = _Side(listener, page, 0, 1)
    side.acceptor.start()
    _, writer = await asyncio.open_unix_connection(path)
    await until(lambda: side.count() == 1)
    writer.close()
    await writer.wait_closed()
    await until(lambda: side.count() == 0)
    side.acceptor.close()
    await side.acceptor.wait_closed()
    side.shares.close()
    os.close(page)
    listener.close()
