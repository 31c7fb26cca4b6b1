"""Suspects are tried one by one, apart; who is cleared goes back, and everybody is answered."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from serving.errors import ServingError
from serving.master.watchdog import is_stopped
from serving.scheduling.line import Line, LineSettings
from serving.scheduling.suspicion import Cause, Loss
from serving.scheduling.ticket import Ticket
from serving.tensor import INT64, BatchAxes, Tensor
from tests.e2e.fleet import Fleet, fleet
from tests.faults.trap import POISON, trap

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="only x86-64 traps on this division"
)

AXES = BatchAxes(True, "proved", (0,), (0,))


@pytest.fixture
def running() -> Iterator[Fleet]:
    with fleet(workers=1) as fleet_of_one:
        yield fleet_of_one


@pytest.fixture
def line(running: Fleet, tmp_path: Path) -> Line:
    return running.open(trap(tmp_path / "trap.onnx"), AXES, LineSettings())


def _row(value: int) -> tuple[Tensor, ...]:
    array = np.array([value], np.int64)
    return (Tensor("x", INT64, array.shape, array),)


async def _until(there: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not there():
            await asyncio.sleep(0.005)


def _send(running: Fleet, line: Line, *values: int) -> list[Ticket]:
    tickets = [running.claim(line, _row(value)) for value in values]
    for ticket in tickets:
        running.scheduler.commit(ticket)
    return tickets


def _code(answer: list[Tensor] | ServingError) -> str:
    return answer.code if isinstance(answer, ServingError) else "answered"


def test_quarantine_finds_every_culprit_among_many(running: Fleet, line: Line) -> None:
    values = [1, POISON, 5, 7, POISON, 9]

    async def ask() -> list[str]:
        tickets = _send(running, line, *values)
        return [_code(await running.answer(ticket)) for ticket in tickets]

    codes = running.run(ask())
    assert codes == ["crashed_the_worker" if value == POISON else "answered" for value in values]
    assert line.statistics.failures == 2
    running.run(_until(lambda: not running.supervisor._quarantine.workers))
    assert line.outstanding == 0
    assert running.supervisor.statistics()[0].restarts == 1, "one serving worker was lost"


def test_quarantine_answers_who_waits_when_it_cannot_load_the_model(
    running: Fleet, line: Line, tmp_path: Path
) -> None:
    (tmp_path / "trap.onnx").unlink()

    async def ask() -> list[str]:
        tickets = _send(running, line, 1, POISON)
        return [_code(await running.answer(ticket)) for ticket in tickets]

    assert running.run(ask()) == ["worker_lost", "worker_lost"]
    assert line.outstanding == 0


def test_quarantine_runs_nothing_for_who_has_gone(running: Fleet, line: Line) -> None:
    async def ask() -> str:
        gone, stays = _send(running, line, POISON, 1)
        await _until(lambda: running.supervisor._quarantine._wards)
        running.scheduler.abandon(gone)
        code = _code(await running.answer(stays))
        await _until(lambda: not running.supervisor._quarantine._wards)
        return code

    assert running.run(ask()) == "answered"
    # The poison was withdrawn before it was tried: no worker but the first was lost to it.
    assert line.outstanding == 0


def test_line_is_not_closed_before_its_suspects_are_back(running: Fleet, line: Line) -> None:
    async def ask_and_close() -> list[str]:
        tickets = _send(running, line, POISON, 1)
        await _until(lambda: running.supervisor._quarantine._wards)
        closing = asyncio.create_task(running.scheduler.remove_line(line, 20))
        codes = [_code(await running.answer(ticket)) for ticket in tickets]
        await closing
        return codes

    assert running.run(ask_and_close()) == ["crashed_the_worker", "answered"]


def test_hang_in_another_slot_of_the_worker_is_no_fault_of_a_run(
    running: Fleet, line: Line
) -> None:
    async def ask() -> str:
        (worker,) = running.supervisor.workers
        os.kill(worker.pid, signal.SIGSTOP)
        await _until(lambda: is_stopped(worker.pid))  # until then it would answer
        (ticket,) = _send(running, line, 1)
        await _until(lambda: running.scheduler.running)
        worker.kill(Loss(Cause.HUNG, "a run took longer than 1 s"))
        return _code(await running.answer(ticket))

    assert running.run(ask()) == "answered"
