"""How places are kept filled: loads under fire, fresh workers, workers that cannot be had."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from serving.channel.messages import Load
from serving.errors import LoadError, Unavailable
from serving.master import crew
from serving.master.supervisor import Supervisor
from serving.master.worker import UnreadyWorker, Worker
from serving.scheduling.line import Line, LineSettings
from serving.scheduling.suspicion import RunTerms
from serving.tensor import FP32, BatchAxes, Tensor
from tests import models
from tests.e2e.fleet import Answer, Fleet, fleet

AXES = BatchAxes(True, "proved", (0,), (0,))
MODEL = 7


@pytest.fixture
def running() -> Iterator[Fleet]:
    with fleet(workers=1) as fleet_of_one:
        yield fleet_of_one


def _order(path: Path) -> Load:
    return Load(MODEL, path.stem, str(path), "onnxruntime", AXES.to_json(), True, 8, 1, False)


def _row() -> tuple[Tensor, ...]:
    array = np.ones((1, 16), np.float32)
    return (Tensor("x", FP32, array.shape, array),)


async def _until(there: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not there():
            await asyncio.sleep(0.005)


def _open_mlp(running: Fleet, tmp_path: Path) -> Line:
    return running.open(models.mlp(tmp_path / "mlp.onnx"), AXES, LineSettings())


def test_load_is_repeated_when_its_worker_is_ended_from_outside(
    running: Fleet, tmp_path: Path
) -> None:
    order = _order(models.hang_at_load(tmp_path / "late.onnx", steps=30, width=1024))

    async def load_and_kill() -> tuple[int, int]:
        loading = asyncio.create_task(running.supervisor.load(order, 60, lambda phase: None))
        (worker,) = running.supervisor.workers
        await _until(lambda: worker.loading)
        os.kill(worker.pid, signal.SIGKILL)
        loaded = await loading
        (now,) = running.supervisor.workers
        assert now is not worker
        assert MODEL in now.models
        return loaded.model, now.pid

    assert running.run(load_and_kill())[0] == MODEL


def test_load_that_crashes_its_worker_is_not_repeated(running: Fleet, tmp_path: Path) -> None:
    order = _order(models.crash_at_load(tmp_path / "crash.onnx"))

    async def load() -> None:
        with pytest.raises(LoadError, match="died while loading: ended by SIGFPE"):
            await running.supervisor.load(order, 60, lambda phase: None)
        await _until(lambda: running.supervisor.workers)
        assert running.supervisor.workers[0].models == set()

    running.run(load())


def test_two_loads_of_one_model_into_one_worker_are_one(running: Fleet, tmp_path: Path) -> None:
    order = _order(models.mlp(tmp_path / "mlp.onnx"))

    async def load() -> None:
        (worker,) = running.supervisor.workers
        first, second = await asyncio.gather(worker.load(order, 20), worker.load(order, 20))
        assert first is second
        assert await worker.load(order, 20) is first
        await asyncio.gather(worker.unload(MODEL), worker.unload(MODEL))
        assert await worker.load(order, 20) is not first

    running.run(load())


def test_model_that_cannot_be_loaded_again_is_condemned(running: Fleet, tmp_path: Path) -> None:
    line = _open_mlp(running, tmp_path)
    told: list[tuple[int, str]] = []
    running.supervisor.on_condemned = lambda model, reason: told.append((model, reason))
    (tmp_path / "mlp.onnx").unlink()

    async def kill() -> None:
        os.kill(running.supervisor.workers[0].pid, signal.SIGKILL)
        await _until(lambda: told)

    running.run(kill())
    ((model, reason),) = told
    assert model == line.model
    assert reason.startswith("it could not be loaded again: ")


def test_answer_that_a_worker_gave_before_it_ended_is_one(running: Fleet, tmp_path: Path) -> None:
    """Whether the end is seen first: both are there when the loop has been busy."""
    line = _open_mlp(running, tmp_path)
    running.scheduler.add_line(line, RunTerms(idempotent=False))
    running.ask(line, [_row()])  # from here on the outputs' size is known, and not asked for

    async def ask() -> Answer:
        (worker,) = running.supervisor.workers
        ticket = running.claim(line, _row())
        running.scheduler.commit(ticket)
        running.scheduler._pump.now()
        assert worker.slots[0]._link._poll(20_000)
        os.kill(worker.pid, signal.SIGKILL)
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        worker._child._exited()
        return await running.answer(ticket)

    assert isinstance(running.run(ask()), list)
    assert line.statistics.failed_runs == 0


def test_worker_is_replaced_between_runs_and_no_request_fails(
    running: Fleet, tmp_path: Path
) -> None:
    line = _open_mlp(running, tmp_path)
    answers: list[object] = []

    async def ask(end: asyncio.Event) -> None:
        while not end.is_set():
            ticket = running.claim(line, _row())
            running.scheduler.commit(ticket)
            answers.append(await running.answer(ticket))

    async def renew() -> None:
        (worker,) = running.supervisor.workers
        end = asyncio.Event()
        clients = [asyncio.create_task(ask(end)) for _ in range(4)]
        await _until(lambda: len(answers) > 20)
        await running.supervisor._renewal.renew(worker, "a test")
        seen = len(answers)
        await _until(lambda: len(answers) > seen + 20)
        end.set()
        await asyncio.gather(*clients)
        (fresh,) = running.supervisor.workers
        assert fresh is not worker
        assert worker.returncode == 0, "it left, and was not ended"
        await running.supervisor._renewal.renew(fresh, "so soon again")
        assert running.supervisor.workers == [fresh]

    running.run(renew())
    assert all(isinstance(answer, list) for answer in answers)


def test_worker_that_keeps_what_it_unloaded_is_replaced(
    running: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_mb = 50
    monkeypatch.setattr(crew, "own_mb", lambda pid: held_mb)
    order = _order(models.mlp(tmp_path / "mlp.onnx"))

    async def load_and_unload() -> None:
        nonlocal held_mb
        (worker,) = running.supervisor.workers
        load = asyncio.create_task(running.supervisor.load(order, 20, lambda phase: None))
        await _until(lambda: worker.loading)
        held_mb = 850
        await load
        await running.supervisor.unload(MODEL)  # gives nothing back
        await _until(lambda: running.supervisor.workers not in ([worker], []))

    running.run(load_and_unload())


def test_requests_are_refused_with_the_reason_while_no_worker_can_be_started(
    running: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = _open_mlp(running, tmp_path)
    start = UnreadyWorker.start
    broken = True

    async def start_or_not(self: UnreadyWorker, timeout_s: float) -> Worker:
        if broken:
            raise Unavailable("a worker did not start: no more processes")
        return await start(self, timeout_s)

    monkeypatch.setattr(UnreadyWorker, "start", start_or_not)

    async def kill_and_ask() -> None:
        nonlocal broken
        os.kill(running.supervisor.workers[0].pid, signal.SIGKILL)
        await _until(lambda: not running.supervisor.workers)
        waiting = running.claim(line, _row())
        running.scheduler.commit(waiting)
        for ask in (running.answer(waiting), _refusal(running, line)):
            error = await ask
            assert isinstance(error, Unavailable)
            assert error.code == "no_worker"
            assert error.given == "a worker did not start: no more processes"
        broken = False
        await _until(lambda: running.supervisor.workers)
        ticket = running.claim(line, _row())
        running.scheduler.commit(ticket)
        assert isinstance(await running.answer(ticket), list)

    running.run(kill_and_ask())


async def _refusal(running: Fleet, line: Line) -> Unavailable:
    with pytest.raises(Unavailable) as refused:
        running.claim(line, _row())
    return refused.value


def test_supervisor_that_is_stopped_leaves_no_process(tmp_path: Path) -> None:
    before = {process.pid for process in psutil.Process().children()}
    with fleet(workers=2) as running:
        _open_mlp(running, tmp_path)
        assert isinstance(running.supervisor, Supervisor)
    assert {process.pid for process in psutil.Process().children()} <= before


def test_stop_reaps_a_worker_that_is_on_its_way() -> None:
    def others() -> set[psutil.Process]:
        return set(psutil.Process().children()) - before

    before = set(psutil.Process().children())
    with fleet(1) as running:
        (worker,) = running.supervisor.workers
        os.kill(worker.pid, signal.SIGKILL)

        async def begun() -> None:
            async with asyncio.timeout(20):
                while not any(child.pid != worker.pid for child in others()):
                    await asyncio.sleep(0.001)

        running.run(begun())
    assert others() == set()
