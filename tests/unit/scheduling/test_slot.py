"""What a slot tells its worker: each thing once, and what a run needs before the run."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from serving.channel.arena import Arena
from serving.channel.layout import FieldShape, place
from serving.channel.link import BlockingLink, pair
from serving.channel.messages import Define, Done, Forget, Lend, Message, Run, encode
from serving.channel.segment import Segment
from serving.scheduling.slot import Slot
from serving.tensor import FP32

LAYOUT = place(1, 4, [FieldShape(FP32, (2,), 0)], None)


class _Nobody:
    def slot_said(self, slot: Slot, message: Message) -> None:
        raise AssertionError(f"nothing was sent to the master, and {message} came")


@pytest.fixture
def arena() -> Iterator[Arena]:
    arena = Arena(1 << 24)
    yield arena
    arena.close()


def _run(number: int, segment: Segment) -> Run:
    return Run(number, 1, LAYOUT.id, segment.id, 0, 0, 1)


async def test_slot_tells_a_worker_that_does_not_read_everything_once(arena: Arena) -> None:
    """So that what waits in its link is bounded: by a run and by what the worker has been lent."""
    ours, theirs = pair()
    # The smallest that the kernel allows: nearly everything has to wait in the link.
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    slot = Slot(ours, _Nobody(), lambda: None, lambda run: None, set(), "w")
    slot.start()
    segments = [arena.take(1, writable_elsewhere=True) for _ in range(50)]
    try:
        for number, segment in enumerate(segments, start=1):
            slot.send(_run(number, segment), LAYOUT, [segment, segments[0]])
        for _ in range(3):
            for segment in segments:
                slot.forget(segment.id)
    finally:
        await _check(slot, theirs, [segment.id for segment in segments])


async def _check(slot: Slot, theirs: socket.socket, ids: list[int]) -> None:
    def read() -> list[Message]:
        worker = BlockingLink(theirs)
        received: list[Message] = []
        while len(received) < 3 * len(ids) + 1:
            message, fds = worker.receive()
            assert message is not None
            for fd in fds:
                socket.close(fd)
            received.append(message)
        return received

    received = await asyncio.to_thread(read)
    slot.close()
    theirs.close()
    assert [m.segment for m in received if isinstance(m, Lend)] == ids
    assert [m.run for m in received if isinstance(m, Run)] == list(range(1, len(ids) + 1))
    assert [m.segment for m in received if isinstance(m, Forget)] == ids
    assert sum(isinstance(m, Define) for m in received) == 1
    lent: set[int] = set()
    defined = False
    for message in received:
        if isinstance(message, Lend):
            lent.add(message.segment)
        elif isinstance(message, Define):
            defined = True
        elif isinstance(message, Run):
            assert defined
            assert message.input in lent


async def test_slot_takes_the_answer_that_it_looks_out_for_at_once(arena: Arena) -> None:
    class Heard:
        def __init__(self) -> None:
            self.runs: list[int] = []

        def slot_said(self, slot: Slot, message: Message) -> None:
            assert isinstance(message, Done)
            self.runs.append(message.run)

    heard = Heard()
    ours, theirs = pair()
    a_minute_us = 60_000_000
    slot = Slot(ours, heard, lambda: None, lambda run: None, set(), "w", busy_poll_us=a_minute_us)
    slot.start()
    segment = arena.take(1, writable_elsewhere=True)
    try:
        for number in range(1, 4):
            slot.send(_run(number, segment), LAYOUT, [segment])
            theirs.send(encode(Done(number, 1, 1, 1)))
            slot.look_out()
            assert heard.runs[-1] == number
    finally:
        slot.close()
        theirs.close()


async def test_slot_gives_its_loop_back_however_long_it_may_look_out() -> None:
    ours, theirs = pair()
    an_hour_us = 3_600_000_000
    slot = Slot(
        ours, _Nobody(), lambda: None, lambda run: None, set(), "w", busy_poll_us=an_hour_us
    )
    slot.start()
    try:
        slot.look_out()  # or the test ends at its deadline
    finally:
        slot.close()
        theirs.close()
