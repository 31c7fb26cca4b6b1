"""Links lose nothing, keep the order, pass descriptors, and end when a peer ends or raves."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from serving.channel.async_link import AsyncLink
from serving.channel.link import MOST_FDS, BlockingLink, pair
from serving.channel.messages import (
    MAX_DATAGRAM,
    Afar,
    Define,
    Failed,
    Forget,
    Lend,
    Message,
    Ping,
    Pong,
    Run,
    Stop,
    encode,
)
from serving.channel.messages.wire import DONE_KIND

TOO_MANY = 20_000
"""Messages that no socket buffer of a link holds; each is kept by the kernel in 512 bytes up."""


class Master:
    """The master's end, and what it has heard."""

    def __init__(self, end: socket.socket) -> None:
        self.heard: list[Message] = []
        self.ends = 0
        self.link = AsyncLink(end, self.heard.append, self._ended)
        self.link.start()

    def _ended(self) -> None:
        self.ends += 1


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Master, socket.socket]]:
    """Yield the master's end, listening, and the worker's bare socket."""
    ours, theirs = pair()
    master = Master(ours)
    yield master, theirs
    master.link.close()
    theirs.close()


def descriptors() -> int:
    """Count this process's open descriptors."""
    return len(os.listdir("/proc/self/fd"))


async def until(there: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 10
    while not there():
        assert time.monotonic() < deadline, f"waited for {what}"
        await asyncio.sleep(0)


def drain(worker: BlockingLink, count: int) -> list[Message]:
    received = [worker.receive()[0] for _ in range(count)]
    return [message for message in received if message is not None]


async def test_link_carries_messages_both_ways_in_order(ends: tuple[Master, socket.socket]) -> None:
    master, theirs = ends
    worker = BlockingLink(theirs)
    for serial in range(40):  # more than one turn of the loop reads
        master.link.send(Ping(serial))
        worker.send(Pong(serial))
    assert drain(worker, 40) == [Ping(serial) for serial in range(40)]
    await until(lambda: len(master.heard) == 40, "every answer")
    assert master.heard == [Pong(serial) for serial in range(40)]
    assert master.ends == 0


async def test_link_passes_a_descriptor_with_its_message(
    ends: tuple[Master, socket.socket],
) -> None:
    master, theirs = ends
    fd = os.memfd_create("test")
    try:
        os.write(fd, b"the same file")
        master.link.send(Lend(7, 13, False), (fd,))
        master.link.send(Forget(7))
        worker = BlockingLink(theirs)
        message, (passed,) = worker.receive()
        assert message == Lend(7, 13, False)
        try:
            assert passed != fd
            assert os.pread(passed, 99, 0) == b"the same file"
        finally:
            os.close(passed)
        assert worker.receive() == (Forget(7), ())
    finally:
        os.close(fd)


async def test_link_passes_as_many_descriptors_as_it_says(
    ends: tuple[Master, socket.socket],
) -> None:
    master, theirs = ends
    fd = os.memfd_create("test")
    run = Run(1, 2, 3, 4, 5, 6, 7, "", Afar(7, (), ()))
    try:
        master.link.send(run, (fd,) * MOST_FDS)
        message, passed = BlockingLink(theirs).receive()
        for each in passed:
            os.close(each)
        assert (message, len(set(passed))) == (run, MOST_FDS)
    finally:
        os.close(fd)


async def test_link_keeps_what_a_full_socket_does_not_take_and_sends_it_in_order(
    ends: tuple[Master, socket.socket],
) -> None:
    master, theirs = ends
    for serial in range(TOO_MANY):
        master.link.send(Forget(serial))
    theirs.setblocking(False)
    taken = 0
    while True:
        try:
            assert theirs.recv(MAX_DATAGRAM) == encode(Forget(taken))
        except BlockingIOError:
            break
        taken += 1
    # The premise: the socket was full, so most of them still wait in the link.
    assert 0 < taken < TOO_MANY
    worker = BlockingLink(theirs)
    rest = await asyncio.to_thread(drain, worker, TOO_MANY - taken)
    assert rest == [Forget(serial) for serial in range(taken, TOO_MANY)]
    master.link.send(Stop())
    assert drain(worker, 1) == [Stop()]


async def test_link_sends_a_descriptor_late_although_its_owner_has_closed_it(
    ends: tuple[Master, socket.socket],
) -> None:
    """A segment may be trimmed while the message that lends it waits."""
    master, theirs = ends
    for serial in range(TOO_MANY):
        master.link.send(Forget(serial))
    fd = os.memfd_create("trimmed")
    os.write(fd, b"still here")
    master.link.send(Lend(1, 10, False), (fd,))
    os.close(fd)
    with open(os.devnull) as other:  # takes the number that has come free
        assert other.fileno() == fd
        worker = BlockingLink(theirs)
        assert len(await asyncio.to_thread(drain, worker, TOO_MANY)) == TOO_MANY
        message, (passed,) = await asyncio.to_thread(worker.receive)
    assert message == Lend(1, 10, False)
    try:
        assert os.pread(passed, 99, 0) == b"still here"
    finally:
        os.close(passed)


async def test_link_that_is_closed_with_messages_waiting_keeps_no_descriptor() -> None:
    before = descriptors()
    ours, theirs = pair()
    master = Master(ours)
    for serial in range(TOO_MANY):
        master.link.send(Forget(serial))
    fd = os.memfd_create("lent")
    master.link.send(Lend(1, 1, False), (fd,))
    os.close(fd)
    master.link.close()
    theirs.close()
    assert descriptors() == before
    assert master.ends == 0


async def test_link_tells_the_end_of_its_peer_once_and_after_what_it_said(
    ends: tuple[Master, socket.socket],
) -> None:
    master, theirs = ends
    BlockingLink(theirs).send(Pong(1))
    theirs.close()
    await until(lambda: master.ends, "the end of file")
    assert master.heard == [Pong(1)]
    assert master.link.closed
    master.link.send(Ping(2))  # does nothing, raises nothing
    master.link.close()
    assert master.ends == 1


async def test_link_hears_what_a_peer_said_that_ended_with_something_unread(
    ends: tuple[Master, socket.socket],
) -> None:
    master, theirs = ends
    master.link.send(Ping(1))
    BlockingLink(theirs).send(Pong(1))
    theirs.close()  # the ping is unread: the kernel tells of that before it hands out the answer
    await until(lambda: master.ends, "the end of file")
    assert master.heard == [Pong(1)]
    assert master.ends == 1


async def test_link_heard_out_has_told_all_and_its_end_at_once(
    ends: tuple[Master, socket.socket],
) -> None:
    master, theirs = ends
    worker = BlockingLink(theirs)
    for serial in (1, 2, 3):
        worker.send(Pong(serial))
    master.link.send(Ping(1))
    theirs.close()
    master.link.hear_out()
    assert master.heard == [Pong(1), Pong(2), Pong(3)]
    assert master.ends == 1
    master.link.hear_out()
    assert master.ends == 1


def test_link_can_be_heard_out_though_the_servers_loop_has_given_its_socket_up() -> None:
    """So does uvloop when the peer leaves something unread, and tells nobody."""

    async def hear() -> None:
        ours, theirs = pair()
        master = Master(ours)
        master.link.send(Ping(1))
        BlockingLink(theirs).send(Pong(1))
        theirs.close()
        for _ in range(3):
            await asyncio.sleep(0.001)
        master.link.hear_out()
        assert master.heard == [Pong(1)]
        assert master.ends == 1
        ours, theirs = pair()  # the next link, with the numbers of the last
        master = Master(ours)
        BlockingLink(theirs).send(Pong(2))
        await until(lambda: master.heard, "what the next one says")
        theirs.close()
        await until(lambda: master.ends, "the end of file")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(hear())


async def test_link_survives_sending_to_a_peer_that_has_just_gone(
    ends: tuple[Master, socket.socket],
) -> None:
    master, theirs = ends
    theirs.close()
    master.link.send(Ping(1))
    await until(lambda: master.ends, "the end of file")
    assert master.ends == 1


@pytest.mark.parametrize("unread", [False, True], ids=["all read", "answers unread"])
def test_worker_sees_that_the_master_hung_up(unread: bool) -> None:
    ours, theirs = pair()
    with theirs:
        worker = BlockingLink(theirs)
        if unread:
            worker.send(Pong(1))
        ours.close()
        assert worker.receive() == (None, ())


async def test_link_refuses_a_message_that_is_too_long_and_goes_on(
    ends: tuple[Master, socket.socket],
) -> None:
    master, theirs = ends
    with pytest.raises(ValueError, match="a Define of .* bytes does not fit a datagram"):
        master.link.send(Define({"x": "y" * MAX_DATAGRAM}))
    longest = Define({"x": "y" * (MAX_DATAGRAM - len(encode(Define({"x": ""}))))})
    assert len(encode(longest)) == MAX_DATAGRAM
    master.link.send(longest)
    assert BlockingLink(theirs).receive() == (longest, ())
    assert master.ends == 0


async def test_link_that_cannot_send_a_message_ends_instead_of_losing_it(
    ends: tuple[Master, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    """As a kernel does that allows less than a datagram of ours, or no more descriptors."""
    master, theirs = ends
    master.link._end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with caplog.at_level(logging.ERROR, "serving.channel"):
        master.link.send(Define({"x": "y" * (MAX_DATAGRAM // 2)}))
        await until(lambda: master.ends, "the link's end")
    assert "could not be sent: Message too long" in caplog.text
    assert BlockingLink(theirs).receive() == (None, ())


async def test_link_that_cannot_keep_a_descriptor_ends_instead_of_losing_it(
    ends: tuple[Master, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(_: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    master, theirs = ends
    for serial in range(TOO_MANY):
        master.link.send(Forget(serial))
    monkeypatch.setattr(os, "dup", exhausted)
    master.link.send(Lend(1, 10, False), (theirs.fileno(),))
    await until(lambda: master.ends, "the link's end")
    assert master.ends == 1


GARBAGE = {
    "an unknown kind": b"\x63{}",
    "no JSON": bytes((Failed.KIND,)) + b"segmentation fault",
    "no text": bytes((Failed.KIND,)) + b"\xff\xfe",
    "JSON that is no object": bytes((Failed.KIND,)) + b"[1, 2]",
    "too few fields": bytes((Failed.KIND,)) + b'{"run": 1}',
    "a field too many": bytes((Pong.KIND,)) + b'{"serial": 1, "more": 2}',
    "no field to drop": bytes((Define.KIND,)) + b'{"layout": {}}',
    "JSON without a bottom": bytes((Pong.KIND,)) + b"[" * 100_000,
    "a short Done": bytes((DONE_KIND,)) + b"\0" * 8,
    "a Done without its outputs": struct.pack("<BQQQQIi", DONE_KIND, 1, 0, 0, 0, 0, 2**31 - 1),
    "a Run's half": b"\x24" + b"\0" * 20,
    "a cut JSON": b"\x32" + b'{"run": 1, "nbytes": 1' + b"0" * MAX_DATAGRAM,
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
async def test_link_ends_on_what_is_no_message(
    ends: tuple[Master, socket.socket], data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker whose memory is damaged must be replaced: its run would never be answered."""
    master, theirs = ends
    BlockingLink(theirs).send(Pong(1))
    theirs.send(data)
    theirs.send(encode(Pong(2)))
    with caplog.at_level(logging.ERROR, "serving.channel"):
        await until(lambda: master.ends, "the link's end")
    assert master.heard == [Pong(1)]
    assert "a worker sent what is no message" in caplog.text
    with pytest.raises(OSError):
        theirs.send(encode(Pong(3)))


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_worker_refuses_what_is_no_message(data: bytes) -> None:
    ours, theirs = pair()
    with ours, theirs:
        ours.send(data)
        with pytest.raises(ValueError):
            BlockingLink(theirs).receive()
