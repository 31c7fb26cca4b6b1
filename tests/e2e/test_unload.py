"""Taking a version down: its requests are answered first, and its memory comes back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from serving.errors import Unavailable
from serving.scheduling.line import Line, LineSettings
from serving.tensor import FP32, BatchAxes, Tensor
from tests import models
from tests.e2e.fleet import Fleet, fleet
from tests.server import until

AXES = BatchAxes(True, "proved", (0,), (0, 0))


@pytest.fixture(scope="module")
def running() -> Iterator[Fleet]:
    with fleet(workers=1) as fleet_of_one:
        yield fleet_of_one


def rows(*values: float) -> tuple[Tensor, ...]:
    array = np.array(values, np.float32)
    return (Tensor("x", FP32, array.shape, array),)


def opened(running: Fleet, tmp_path: Path, tag: float) -> Line:
    return running.open(models.tagged(tmp_path / f"m{tag}.onnx", tag), AXES, LineSettings())


def test_unload_answers_what_was_accepted(running: Fleet, tmp_path: Path) -> None:
    line = opened(running, tmp_path, 3)

    async def ask_and_close() -> list[list[Tensor] | Exception]:
        tickets = [running.claim(line, rows(float(i))) for i in range(40)]
        closing = asyncio.create_task(running.scheduler.remove_line(line, 20))
        answers = []
        for ticket in tickets:
            running.scheduler.commit(ticket)
        for ticket in tickets:
            answers.append(await running.answer(ticket))
        await closing
        return answers

    answers = running.run(ask_and_close())
    assert all(isinstance(answer, list) for answer in answers)
    assert line.outstanding == 0


def test_unload_fails_what_is_late_and_leaves_others_alone(running: Fleet, tmp_path: Path) -> None:
    late, other = opened(running, tmp_path, 4), opened(running, tmp_path, 5)

    async def begin() -> list[object]:
        tickets = [running.claim(late, rows(float(i))) for i in range(3)]
        for ticket in tickets:
            running.scheduler.commit(ticket)
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert running.scheduler.running == 1  # one runs, the others wait
        await running.scheduler.remove_line(late, 0.05)
        return [await running.answer(ticket) for ticket in tickets]

    with running.stopped_workers():
        answers = running.run(begin())
    assert [type(answer) for answer in answers] == [Unavailable] * 3
    assert {answer.code for answer in answers} == {"unloaded"}  # type: ignore[attr-defined]
    (answer,) = running.ask(other, [rows(1.0)])
    assert isinstance(answer, list)
    assert answer[1].array is not None
    assert answer[1].array.tolist() == [6.0]
    assert late.outstanding == 0


def test_unload_fails_what_waits_for_a_model_that_no_worker_can_load_again(tmp_path: Path) -> None:
    """As when a version was deleted, and its only worker dies while it drains."""
    with fleet(1) as alone:
        line = opened(alone, tmp_path, 6)
        (tmp_path / "m6.onnx").unlink()
        (worker,) = alone.supervisor.workers

        async def ask() -> list[object]:
            tickets = [alone.claim(line, rows(float(n))) for n in range(3)]
            for ticket in tickets:
                alone.scheduler.commit(ticket)
            await asyncio.sleep(0.05)
            os.kill(worker.pid, signal.SIGKILL)
            return [await alone.answer(ticket) for ticket in tickets]

        stopped = psutil.Process(worker.pid)
        stopped.suspend()
        until(lambda: stopped.status() == psutil.STATUS_STOPPED, 10, "the worker to stand still")
        answers = alone.run(ask())
        assert [type(answer) for answer in answers] == [Unavailable] * 3
        assert {answer.code for answer in answers} == {"unloaded"}  # type: ignore[attr-defined]
        assert line.outstanding == 0
        alone.run(alone.scheduler.remove_line(line, 0))


def test_unload_gives_memory_back(running: Fleet, tmp_path: Path) -> None:
    worker = psutil.Process(running.supervisor.workers[0].pid)
    file = models.mlp(tmp_path / "big.onnx", inputs=256, hidden=100_000)
    before = worker.memory_full_info().pss
    line = running.open(file, BatchAxes(True, "proved", (0,), (0,)), LineSettings())
    x = np.ones((4, 256), np.float32)
    (answer,) = running.ask(line, [(Tensor("x", FP32, x.shape, x),)])
    assert isinstance(answer, list)
    loaded = worker.memory_full_info().pss
    assert loaded > before + (80 << 20), "the model is about 104 MB"

    async def take_down() -> None:
        await running.scheduler.remove_line(line, 5)
        await running.supervisor.unload(line.model)
        running.arena.trim()

    running.run(take_down())
    assert running.arena.total_bytes == 0
    until(
        lambda: worker.memory_full_info().pss < before + 0.1 * (loaded - before),
        5,
        "the worker's memory",
    )
    assert line.model not in running.supervisor.workers[0].models


def test_unload_again_and_again_lets_no_memory_grow(running: Fleet, tmp_path: Path) -> None:
    """A model of 21 MB, eight times: what is left after each is what was left after the first."""
    worker = psutil.Process(running.supervisor.workers[0].pid)
    file = models.mlp(tmp_path / "often.onnx", inputs=256, hidden=20_000)
    x = np.ones((4, 256), np.float32)
    left: list[int] = []
    for _ in range(8):
        line = running.open(file, BatchAxes(True, "proved", (0,), (0,)), LineSettings())
        (answer,) = running.ask(line, [(Tensor("x", FP32, x.shape, x),)])
        assert isinstance(answer, list)

        async def take_down(line: Line) -> None:
            await running.scheduler.remove_line(line, 5)
            await running.supervisor.unload(line.model)
            running.arena.trim()

        running.run(take_down(line))
        left.append(worker.memory_full_info().pss)
    assert min(left[4:]) < left[0] + (10 << 20), left  # less than half a model in eight of them
