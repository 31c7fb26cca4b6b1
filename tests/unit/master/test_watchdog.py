"""Whom the watchdog pings, asks to end, and ends; and that its own stops are nobody's fault."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from serving.master import watchdog
from serving.master.watchdog import (
    Act,
    OwnTime,
    Watchdog,
    about_run,
    about_silence,
    is_stopped,
    within,
)
from serving.scheduling.suspicion import Cause, Loss


class FakeSlot:
    def __init__(self) -> None:
        self.busy = 0
        self.cancelled: list[int] = []

    def cancel(self, run: int) -> None:
        self.cancelled.append(run)


class Process:
    """A process that answers pings as long as it is ``well``."""

    name = "cpu-0"

    def __init__(self, pid: int = 1 << 30) -> None:
        self.pid = pid
        self.awaited = self.lost = self.loading = False
        self.well = True
        self.pings = 0
        self.slots = [FakeSlot()]
        self.loss: Loss | None = None

    def ping(self) -> None:
        self.pings += 1
        self.awaited = not self.well

    def kill(self, loss: Loss) -> None:
        self.loss, self.lost = loss, True


class Limits:
    """Every run may take ten seconds."""

    def __init__(self) -> None:
        self.late: list[int] = []

    def limit_s(self, run: int) -> float:
        return 10.0

    def overdue(self, run: int) -> None:
        self.late.append(run)


def watch(process: Process, limits: Limits, silence_s: float = 4.0) -> Watchdog:
    return Watchdog(lambda: [process], limits, silence_s)


def look_until(dog: Watchdog, start: float, end: float) -> None:
    for quarter in range(int(start * 4), int(end * 4) + 1):
        dog.look(quarter / 4)


def test_watchdog_pings_a_healthy_process_four_times_in_the_silence_it_allows() -> None:
    process = Process()
    look_until(watch(process, Limits()), 0, 8)
    assert process.pings == 8
    assert process.loss is None


def test_watchdog_ends_a_process_that_stays_silent_and_blames_no_run() -> None:
    process = Process()
    dog = watch(process, Limits())
    process.well = False
    look_until(dog, 0, 4.75)
    assert process.loss is None
    look_until(dog, 5, 5)
    assert process.pings == 1
    assert process.loss is not None
    assert process.loss.cause is Cause.ENDED


def test_watchdog_lets_a_load_keep_a_process_from_answering() -> None:
    process = Process()
    process.well, process.loading = False, True
    dog = watch(process, Limits())
    look_until(dog, 0, 60)
    assert process.loss is None
    process.loading = False
    look_until(dog, 60, 60.25)
    assert process.loss is not None


def test_watchdog_without_a_silence_pings_nobody() -> None:
    process = Process()
    process.well = False
    look_until(watch(process, Limits(), silence_s=0.0), 0, 60)
    assert process.pings == 0
    assert process.loss is None


def test_watchdog_asks_a_long_run_to_end_and_then_ends_its_process() -> None:
    process, limits = Process(), Limits()
    dog = watch(process, limits)
    (slot,) = process.slots
    slot.busy = 7
    look_until(dog, 0, 9.75)
    assert slot.cancelled == limits.late == []
    look_until(dog, 10, 12.25)
    assert slot.cancelled == limits.late == [7]
    assert process.loss is None
    look_until(dog, 12.5, 12.5)
    assert process.loss is not None
    assert process.loss.cause is Cause.HUNG


def test_watchdog_measures_each_run_for_itself() -> None:
    process, limits = Process(), Limits()
    dog = watch(process, limits)
    (slot,) = process.slots
    for run in range(1, 6):
        slot.busy = run
        look_until(dog, 9 * run, 9 * run + 8.75)
    assert limits.late == []


@pytest.fixture
def stopped() -> Iterator[int]:
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    child.send_signal(signal.SIGSTOP)
    yield child.pid
    child.kill()
    child.wait()


async def test_watchdog_blames_no_run_of_a_process_that_is_held(stopped: int) -> None:
    async with asyncio.timeout(5):
        while not is_stopped(stopped):
            await asyncio.sleep(0.01)
    process, limits = Process(stopped), Limits()
    process.well, process.loading = False, True
    process.slots[0].busy = 7
    # Silence beyond any run's limit: the late run is what makes it look.
    look_until(watch(process, limits, silence_s=1000.0), 0, 10)
    assert limits.late == []
    assert process.loss is not None
    assert process.loss.cause is Cause.ENDED


def test_own_time_counts_a_long_gap_as_a_short_one() -> None:
    own = OwnTime(100.0, longest_s=0.5)
    assert own.advance(100.25) == 0.25
    assert own.advance(4000.0) == 0.75
    assert own.advance(4000.25) == 1.0


async def test_own_time_bounds_a_wait_and_a_stop_of_this_process_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, slept = time.monotonic, 0.0
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: real() + slept)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()
    waiting = asyncio.create_task(within(answer, 60))
    await asyncio.sleep(0)
    slept = 3600.0
    loop.call_later(0.05, answer.set_result, "loaded")
    assert await waiting == "loaded"
    with pytest.raises(TimeoutError):
        await within(loop.create_future(), 0.02)


async def test_watchdog_looks_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "TICK_S", 0.01)
    process = Process()
    process.well = False
    dog = watch(process, Limits(), silence_s=0.05)
    dog.start()
    try:
        async with asyncio.timeout(10):
            while process.loss is None:
                await asyncio.sleep(0.01)
    finally:
        dog.stop()


@pytest.mark.parametrize(
    ("age_s", "limit_s", "cancelled", "act"),
    [
        (1e9, 0, False, Act.NOTHING),
        (59.9, 60, False, Act.NOTHING),
        (60, 60, False, Act.CANCEL),
        (64.9, 60, True, Act.NOTHING),
        (65, 60, True, Act.KILL),
        (1.4, 1, True, Act.NOTHING),
        (1.5, 1, True, Act.KILL),
    ],
)
def test_run_has_a_while_to_heed_the_request_to_end(
    age_s: float, limit_s: float, cancelled: bool, act: Act
) -> None:
    assert about_run(age_s, limit_s, cancelled=cancelled) is act


@pytest.mark.parametrize(
    ("asked_s", "awaited", "act"),
    [
        (0.9, False, Act.NOTHING),
        (1, False, Act.PING),
        (3.9, True, Act.NOTHING),
        (4, True, Act.KILL),
    ],
)
def test_silence_begins_with_a_ping(asked_s: float, awaited: bool, act: Act) -> None:
    assert about_silence(asked_s, awaited=awaited, silence_s=4) is act
