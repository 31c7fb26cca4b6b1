"""The stream keeps order, whatever the sizes, and carries descriptors with their messages."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.channel.link import pair
from serving.gateway.frames import HEAD, encode
from serving.gateway.messages import Claim, Lend, Message, Ping, Told
from serving.gateway.pipe import Pipe


class Ends:
    def __init__(self) -> None:
        ours, theirs = pair(socket.SOCK_STREAM)
        self.raw = ours.dup()
        self.heard: list[Message] = []
        self.fds: list[int] = []
        self.closed: list[str] = []
        self.near = Pipe(ours, self.heard.append, lambda: self.closed.append("near"))
        self.far = Pipe(theirs, self._take, lambda: self.closed.append("far"))

    def _take(self, message: Message) -> None:
        self.heard.append(message)
        if isinstance(message, Lend):
            self.fds.append(self.far.take_fd())

    def close(self) -> None:
        self.near.close()
        self.far.close()
        self.raw.close()
        for fd in self.fds:
            os.close(fd)


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    found = Ends()
    found.near.start()
    found.far.start()
    yield found
    found.close()


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not there():
            await asyncio.sleep(0.001)


async def test_messages_of_one_turn_come_in_order_and_in_one_read(ends: Ends) -> None:
    sent = [Ping(serial) for serial in range(500)]
    for message in sent:
        ends.near.send(message)
    assert not ends.heard, "nothing is sent within the turn"
    await until(lambda: len(ends.heard) == 500)
    assert ends.heard == sent


async def test_message_larger_than_the_socket_takes_comes_whole(ends: Ends) -> None:
    large = Claim(1, 2, None, 0, b"look", "id", (), os.urandom(5 << 20))
    for _ in range(3):
        ends.near.send(large)
    ends.near.send(Ping(9))
    await until(lambda: len(ends.heard) == 4)
    assert ends.heard == [large, large, large, Ping(9)]


async def test_descriptors_come_with_their_messages(ends: Ends) -> None:
    names = []
    for number in range(100):
        fd = os.memfd_create(f"m{number}")
        os.write(fd, b"%d" % number)
        names.append(number)
        ends.near.send(Ping(number))
        ends.near.send(Lend(number, 1, tray=False), fd)
        os.close(fd)  # the caller's; the message has its own
    await until(lambda: len(ends.heard) == 200)
    assert [m.serial for m in ends.heard if isinstance(m, Ping)] == names
    assert [m.segment for m in ends.heard if isinstance(m, Lend)] == names
    assert [int(os.pread(fd, 9, 0)) for fd in ends.fds] == names


async def test_flush_sends_within_the_turn(ends: Ends) -> None:
    ends.near.send(Ping(1))
    ends.near.flush()
    ends.near.send(Ping(2))
    await until(lambda: len(ends.heard) == 2)
    assert ends.heard == [Ping(1), Ping(2)]


async def test_what_nobody_waits_for_goes_with_the_next_or_soon(ends: Ends) -> None:
    ends.near.send_with_next(Ping(1))
    await asyncio.sleep(0)
    ends.near.send(Ping(2))
    await until(lambda: len(ends.heard) == 2)
    ends.near.send_with_next(Ping(3))
    await until(lambda: len(ends.heard) == 3)
    assert ends.heard == [Ping(1), Ping(2), Ping(3)]
    ends.near.send_with_next(Ping(4))  # never sent: the stream is closed before


async def test_end_of_one_side_is_seen_by_the_other_once(ends: Ends) -> None:
    ends.near.send(Told(1, {"last": "words"}))
    ends.near.flush()
    ends.near.close()
    ends.raw.close()
    await until(lambda: ends.closed == ["far"])
    assert ends.heard == [Told(1, {"last": "words"})]
    ends.far.send(Ping(1))  # does nothing
    ends.near.send(Ping(1))
    await asyncio.sleep(0.01)
    assert ends.closed == ["far"]


@pytest.mark.parametrize(
    "junk",
    [
        HEAD.pack(3, 99) + b"abc",
        HEAD.pack(2**32 - 1, 1),
        HEAD.pack(2, 17) + b"{]",
        HEAD.pack(5, 1) + b"short",
    ],
)
async def test_what_is_no_message_ends_the_stream(ends: Ends, junk: bytes) -> None:
    ends.raw.send(encode(Ping(1)) + junk)
    await until(lambda: ends.closed[:1] == ["far"])
    assert ends.heard == [Ping(1)]


async def test_fault_in_taking_a_message_ends_the_stream() -> None:
    ours, theirs = pair(socket.SOCK_STREAM)
    closed: list[bool] = []

    def broken(message: Message) -> None:
        raise ZeroDivisionError(message)

    pipe = Pipe(theirs, broken, lambda: closed.append(True))
    pipe.start()
    ours.send(encode(Ping(1)) + encode(Ping(2)))
    await until(lambda: closed == [True])
    assert pipe.closed
    ours.close()


async def test_descriptors_that_were_not_sent_are_closed() -> None:
    ours, theirs = socket.socketpair()
    pipe = Pipe(ours, lambda _: None, lambda: None)
    before = len(os.listdir("/proc/self/fd"))
    with open("/dev/null") as file:
        for _ in range(5):
            pipe.send(Lend(1, 1, tray=True), file.fileno())
    assert len(os.listdir("/proc/self/fd")) == before + 5
    pipe.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1
    theirs.close()


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 400), max_size=12))
def test_messages_come_whole_however_the_bytes_are_cut(told: list[bytes], cuts: list[int]) -> None:
    sent = [Claim(n, 0, None, 0, b"l", "", (), data) for n, data in enumerate(told)]
    stream = b"".join(map(encode, sent))
    heard: list[Message] = []
    ours, theirs = pair(socket.SOCK_STREAM)
    pipe = Pipe(ours, heard.append, lambda: None)
    borders = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, end in itertools.pairwise(borders):
        pipe._feed(stream[start:end])
    assert heard == sent
    pipe.close()
    theirs.close()
