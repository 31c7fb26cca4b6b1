"""The one timer for all deadlines of a server."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest

from serving.frontends.grpc.lane import deadlines
from serving.frontends.grpc.lane.deadlines import Deadlines
from tests.unit.frontends.grpc.running import until


@dataclass(eq=False)
class Timed:
    deadline: float | None
    slot: int = 0


def due_in(seconds: float) -> Timed:
    return Timed(time.monotonic() + seconds)


async def test_deadlines_are_kept_to_a_tick() -> None:
    passed: dict[Timed, float] = {}
    watched = Deadlines[Timed](lambda timed: passed.update({timed: time.monotonic()}))
    wanted = [due_in(seconds) for seconds in (0.0, 0.05, 0.05, 0.2)]
    dropped = due_in(0.05)
    for timed in (*wanted, dropped):
        watched.add(timed)
    watched.discard(dropped)
    await until(lambda: len(passed) == len(wanted))
    assert passed.keys() == set(wanted)
    assert all(at >= (timed.deadline or 0) for timed, at in passed.items())
    assert watched._timer is None


async def test_deadlines_beyond_the_horizon_are_kept_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deadlines, "HORIZON_S", 0.05)
    passed: list[float] = []
    watched = Deadlines[Timed](lambda _: passed.append(time.monotonic()))
    far = due_in(0.3)
    watched.add(far)
    await until(lambda: bool(passed))
    assert passed[0] >= (far.deadline or 0)


async def test_any_number_of_far_deadlines_takes_few_slots() -> None:
    """A client may name another far time on each call, and end it at once."""
    watched = Deadlines[Timed](lambda _: None)
    for number in range(20_000):
        timed = due_in(number * 4567.0)
        watched.add(timed)
        watched.discard(timed)
    assert len(watched._slots) == len(watched._order) < 600
    watched.close()


async def test_a_deadline_that_cannot_be_kept_keeps_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    passed: list[Timed] = []
    first, second = due_in(0.0), due_in(0.0)

    def expire(timed: Timed) -> None:
        passed.append(timed)
        if timed is passed[0]:
            raise RuntimeError("broken")

    watched = Deadlines[Timed](expire)
    watched.add(first)
    watched.add(second)
    await until(lambda: len(passed) == 2)
    await asyncio.sleep(0)
    assert "could not be ended" in caplog.text
