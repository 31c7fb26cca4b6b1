"""Trial workers: which process a model is tried in, and what is left of it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from serving.channel.messages import Load
from serving.errors import LoadError
from serving.master import trials
from serving.master import worker as worker_module
from serving.master.trials import Trials
from serving.master.worker import Worker
from serving.master.worker_process import WorkerProcess
from serving.scheduling.slot import SlotEvents
from serving.tensor import BatchAxes
from tests import models

_TIMEOUT_S = 60.0


class Events:
    """Remembers the workers that are gone; a trial worker has no slots that could report."""

    def __init__(self) -> None:
        self.reaped: list[str] = []

    def worker_lost(self, worker: Worker) -> None:
        pass

    def worker_reaped(self, worker: Worker) -> None:
        self.reaped.append(worker.name)


@contextlib.asynccontextmanager
async def _trials() -> AsyncIterator[tuple[Trials, Events]]:
    events = Events()
    running = Trials(cast(SlotEvents, None), events, "warning")
    try:
        yield running, events
    finally:
        family = list(running.workers)
        for worker in family:
            worker.stopping = True
            worker.kill()
            await worker.gone.wait()


def _order(path: Path, model: int) -> Load:
    axes = BatchAxes.refused("not asked").to_json()
    return Load(model, path.stem, str(path), "onnxruntime", axes, True, 1, 1, True)


async def _until(there: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not there():
            await asyncio.sleep(0.01)


async def test_models_that_load_well_share_one_process(tmp_path: Path) -> None:
    async with _trials() as (running, events):
        for number in range(1, 4):
            path = models.add(tmp_path / f"add{number}.onnx")
            await running.try_out(_order(path, number), _TIMEOUT_S)
            assert [worker.name for worker in running.workers] == ["trial-1"]
            assert not next(iter(running.workers)).models
        assert events.reaped == []


async def test_two_trials_at_once_have_a_process_each(tmp_path: Path) -> None:
    path = models.add(tmp_path / "add.onnx")
    async with _trials() as (running, _):
        await asyncio.gather(
            *[running.try_out(_order(path, number), _TIMEOUT_S) for number in (1, 2)]
        )
        assert len(running.workers) == 2


async def test_a_failure_beside_what_came_before_counts_only_when_it_repeats_in_a_fresh_process(
    tmp_path: Path,
) -> None:
    good = models.add(tmp_path / "good.onnx")
    bad = models.unknown_operator(tmp_path / "bad.onnx")
    async with _trials() as (running, events):
        await running.try_out(_order(good, 1), _TIMEOUT_S)
        with pytest.raises(LoadError, match="(?i)op"):
            await running.try_out(_order(bad, 2), _TIMEOUT_S)
        assert events.reaped == ["trial-1", "trial-2"]
        assert not running.workers
        await running.try_out(_order(good, 3), _TIMEOUT_S)
        assert [worker.name for worker in running.workers] == ["trial-3"]


@pytest.mark.parametrize("ended", [2, 3])
async def test_process_that_ends_before_its_hello_is_not_held_against_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: int
) -> None:
    launch, left = worker_module.launch, [ended]

    def launch_and_kill(*given: Any) -> WorkerProcess:
        begun = launch(*given)
        if left[0]:
            left[0] -= 1
            begun.process.kill()
        return begun

    monkeypatch.setattr(worker_module, "launch", launch_and_kill)
    order = _order(models.add(tmp_path / "add.onnx"), 1)
    async with _trials() as (running, events):
        if ended < 3:
            await running.try_out(order, _TIMEOUT_S)
        else:
            with pytest.raises(LoadError, match="a worker did not start: ended by SIGKILL") as told:
                await running.try_out(order, _TIMEOUT_S)
            assert told.value.__cause__ is None  # it is the whole of what went wrong
        assert events.reaped == ["trial-1"] * ended


async def test_a_crash_in_a_used_process_is_told_as_in_a_fresh_one(tmp_path: Path) -> None:
    good = models.add(tmp_path / "good.onnx")
    crash = models.crash_at_load(tmp_path / "crash.onnx")
    async with _trials() as (running, _):
        with pytest.raises(LoadError) as fresh:
            await running.try_out(_order(crash, 1), _TIMEOUT_S)
        await running.try_out(_order(good, 2), _TIMEOUT_S)
        with pytest.raises(LoadError) as used:
            await running.try_out(_order(crash, 3), _TIMEOUT_S)
        assert str(used.value) == str(fresh.value)
        assert "died while loading" in str(used.value)


async def test_a_load_over_its_time_is_not_waited_for_twice(tmp_path: Path) -> None:
    good = models.add(tmp_path / "good.onnx")
    slow = models.hang_at_load(tmp_path / "hang.onnx")
    async with _trials() as (running, events):
        await running.try_out(_order(good, 1), _TIMEOUT_S)
        with pytest.raises(LoadError, match="took longer than 0.5 s"):
            await running.try_out(_order(slow, 2), 0.5)
        assert events.reaped == ["trial-1"]


async def test_an_idle_process_dies_unnoticed_and_the_next_model_gets_another(
    tmp_path: Path,
) -> None:
    path = models.add(tmp_path / "add.onnx")
    async with _trials() as (running, events):
        await running.try_out(_order(path, 1), _TIMEOUT_S)
        psutil.Process(next(iter(running.workers)).pid).kill()
        await _until(lambda: events.reaped)
        await running.try_out(_order(path, 2), _TIMEOUT_S)
        assert [worker.name for worker in running.workers] == ["trial-2"]


async def test_a_process_ends_when_no_model_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "_IDLE_S", 0.05)
    path = models.add(tmp_path / "add.onnx")
    async with _trials() as (running, events):
        await running.try_out(_order(path, 1), _TIMEOUT_S)
        await _until(lambda: not running.workers)
        assert events.reaped == ["trial-1"]


async def test_a_process_that_has_grown_ends_with_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "_SMALL_MB", 1)
    path = models.add(tmp_path / "add.onnx")
    async with _trials() as (running, events):
        await running.try_out(_order(path, 1), _TIMEOUT_S)
        assert events.reaped == ["trial-1"]


async def test_a_used_process_is_limited_to_the_memory_that_is_free_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = models.add(tmp_path / "add.onnx")
    async with _trials() as (running, _):
        await running.try_out(_order(path, 1), _TIMEOUT_S)
        (worker,) = running.workers
        before, hard = resource.prlimit(worker.pid, resource.RLIMIT_DATA)
        monkeypatch.setattr(trials, "available_mb", lambda: 1000)
        await running.try_out(_order(path, 2), _TIMEOUT_S)
        assert resource.prlimit(worker.pid, resource.RLIMIT_DATA) == (800 << 20, hard)
        assert before == hard > 800 << 20
