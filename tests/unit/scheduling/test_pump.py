"""A lone request takes a shorter way to its run, and the run is what it would have been anyway."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pytest

from serving.channel.arena import Arena
from serving.channel.layout import Layout
from serving.channel.link import pair
from serving.channel.messages import Done, Run
from serving.channel.segment import Segment
from serving.request import Description, InferRequest, InferResponse
from serving.scheduling.line import Line, LineSettings
from serving.scheduling.pump import Pump
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.slot import NO_GEARS, Slot
from serving.tensor import FP32, BatchAxes, Signature, Tensor, TensorSpec

MOST = 4
SPECS = (TensorSpec("x", FP32, ("n", 2)),), (TensorSpec("y", FP32, ("n", 2)),)
KNOWN = Description("m", 1, Signature(*SPECS), BatchAxes(True, "test", (0,), (0,)), MOST, "stub")


class RecordingSlot(Slot):
    """Keeps what it was sent; its worker answers when the test says so."""

    def __init__(self, scheduler: Scheduler, gears: Mapping[int, tuple[int, ...]]) -> None:
        ours, self.theirs = pair()
        super().__init__(ours, scheduler, lambda: None, lambda run: None, {1}, "w", gears)
        self.sent: list[Run] = []
        self.looked_out = 0

    def send(self, run: Run, layout: Layout, segments: list[Segment], *_fds: object) -> None:
        self.busy = self.latest_run = run.run
        self.sent.append(run)

    def look_out(self) -> None:
        self.looked_out += 1

    def close(self) -> None:
        self.theirs.close()
        super().close()


class Room:
    """One line, one slot."""

    def __init__(self, delay_s: float | None, gears: tuple[int, ...] | None = None) -> None:
        self.arena = Arena(1 << 24)
        self.scheduler = Scheduler(self.arena)
        self.line = Line(1, KNOWN, LineSettings(MOST, delay_s), False, self.arena)
        self.scheduler.add_line(self.line)
        self.slot = RecordingSlot(self.scheduler, NO_GEARS if gears is None else {1: gears})
        self.scheduler.add_slot(self.slot)

    def request(self, rows: int = 1, deadline: float | None = None) -> None:
        tensor = Tensor("x", FP32, (rows, 2), np.zeros((rows, 2), np.float32))
        ticket = self.scheduler.claim(
            self.line, InferRequest("m", (tensor,), deadline=deadline, id=f"r{rows}")
        )
        ticket.tell(lambda answer: answer.release() if isinstance(answer, InferResponse) else None)
        self.scheduler.commit(ticket)

    def answer(self) -> None:
        self.scheduler.slot_said(self.slot, Done(self.slot.busy, 1, 1, 1, ()))


@contextmanager
def room(delay_s: float | None = 0.0, gears: tuple[int, ...] | None = None) -> Iterator[Room]:
    """Yield a room that is closed again."""
    room = Room(delay_s, gears)
    try:
        yield room
    finally:
        room.slot.close()
        room.scheduler.close()
        room.arena.close()


async def test_pump_looks_out_for_the_answer_to_the_only_run() -> None:
    with room() as lone:
        for _ in range(20):
            before = len(lone.slot.sent)
            lone.request()
            assert len(lone.slot.sent) == before, "those who come in this turn run together"
            await asyncio.sleep(0)
            lone.answer()
        assert lone.slot.looked_out == 20


async def test_pump_does_not_look_out_while_somebody_waits() -> None:
    with room() as busy:
        busy.request()
        await asyncio.sleep(0)
        busy.request()
        await asyncio.sleep(0)
        assert len(busy.slot.sent) == 1
        assert busy.slot.looked_out == 1


@pytest.mark.parametrize("delay_s", [0.0, None, 30.0])
@pytest.mark.parametrize("gears", [None, (2, 4)])
@pytest.mark.parametrize("rows", [1, 3, MOST, MOST + 3])
@pytest.mark.parametrize("deadline", [None, 1e12])
async def test_pump_sends_of_a_lone_request_what_it_sends_the_long_way(
    delay_s: float | None,
    gears: tuple[int, ...] | None,
    rows: int,
    deadline: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def sent() -> list[Run]:
        with room(delay_s, gears) as lone:
            lone.request(rows, deadline)
            for _ in range(200):
                await asyncio.sleep(0)
            return [run._replace(layout=0) for run in lone.slot.sent]

    short = await sent()
    monkeypatch.setattr(Pump, "_dispatch_lone", lambda _self: False)
    assert short == await sent()
    assert bool(short) == (delay_s != 30.0 or rows >= MOST)
