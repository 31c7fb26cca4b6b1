"""What a line counts of requests that share runs, wait, are withdrawn or are too late."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Iterator

import numpy as np
import pytest

from serving.errors import Cancelled, DeadlineExceeded
from serving.request import InferRequest
from serving.scheduling.line import Line, LineSettings
from serving.statistics import Unanswered, VersionStatistics
from serving.tensor import BatchAxes, Tensor
from tests import models
from tests.e2e.fleet import Fleet, fleet

ROWS = BatchAxes(True, "test", (0,), (0,))
PAUSE_S = 0.05


@pytest.fixture(scope="module")
def running() -> Iterator[Fleet]:
    with fleet(1) as running:
        yield running


@pytest.fixture
def line(running: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Line:
    """Open a line of its own for each test: counters begin at 0."""
    path = models.variable_width(tmp_path_factory.mktemp("models") / "width.onnx")
    return running.open(path, ROWS, LineSettings())


def seen(line: Line) -> VersionStatistics:
    return line.snapshot(time.monotonic(), time.time())


def request(line: Line, deadline: float | None = None) -> InferRequest:
    row = Tensor.of("x", np.ones((1, 3), np.float32))
    return InferRequest(line.description.servable, (row,), deadline=deadline)


def test_counting_gives_the_time_of_a_shared_run_to_each_of_its_requests(
    running: Fleet, line: Line
) -> None:
    row = np.ones((1, 3), np.float32)
    running.ask(line, [[Tensor.of("x", row)]] * 16)
    told = seen(line)
    assert (told.successes, told.rows) == (16, 16)
    assert told.executions < 16, "no run was shared, so nothing was shown"
    # Every request has one row, so a run of n rows is that of n requests.
    assert told.infer_ns == sum(runs.rows * runs.infer_ns for runs in told.runs)
    assert told.input_ns == sum(runs.rows * runs.input_ns for runs in told.runs)
    assert told.output_ns == sum(runs.rows * runs.output_ns for runs in told.runs)
    assert told.mean_rows == 16 / told.executions


def test_counting_takes_waiting_for_a_worker_as_time_in_the_queue(
    running: Fleet, line: Line
) -> None:
    async def story() -> None:
        with running.stopped_workers():
            tickets = []
            for _ in range(3):
                tickets.append(running.scheduler.claim(line, request(line)))
                running.scheduler.commit(tickets[-1])
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            now = seen(line)
            # The first went out and met a worker that does not move; it waits there.
            assert (now.unfinished, now.waiting, now.waiting_rows) == (3, 2, 2)
            assert now.waiting_bytes == 2 * 3 * 4
            await asyncio.sleep(PAUSE_S)
        for ticket in tickets:
            await running.answer(ticket)

    running.run(story())
    told = seen(line)
    assert (told.unfinished, told.waiting, told.waiting_rows, told.waiting_bytes) == (0, 0, 0, 0)
    assert told.successes == 3
    # Three were there while the worker stood still, two of them in the queue.
    assert told.success_ns >= 3 * PAUSE_S * 1e9
    assert 2 * PAUSE_S * 1e9 <= told.queue_ns <= told.success_ns - PAUSE_S * 1e9


def test_counting_tells_who_left_from_who_was_too_late(running: Fleet, line: Line) -> None:
    async def story() -> None:
        with running.stopped_workers():
            deadline = time.monotonic() + PAUSE_S
            tickets = [running.scheduler.claim(line, request(line)) for _ in range(2)]
            late = running.scheduler.claim(line, request(line, deadline))
            for ticket in (*tickets, late):
                running.scheduler.commit(ticket)
            running.scheduler.abandon(tickets[0])
            with pytest.raises(Cancelled):
                await tickets[0].answer
            with pytest.raises(DeadlineExceeded):
                await late.answer
        await running.answer(tickets[1])

    running.run(story())
    told = seen(line)
    assert told.failures == (
        Unanswered("cancelled", "cancelled", 1),
        Unanswered("deadline_exceeded", "deadline_exceeded", 1),
    )
    assert (told.successes, told.failed, told.rows) == (1, 2, 1)
    assert told.fail_ns >= PAUSE_S * 1e9 * 0.9


def test_counting_begins_at_nothing(line: Line) -> None:
    told = seen(line)
    assert (told.successes, told.failed, told.executions, told.last_run_ms) == (0, 0, 0, 0)
    assert (told.mean_rows, told.mean_infer_ms, told.mean_success_ms) == (0, 0, 0)


def test_counting_of_a_run_that_one_request_spoiled(
    running: Fleet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = models.picky(tmp_path_factory.mktemp("models") / "picky.onnx")
    line = running.open(path, ROWS, LineSettings())
    ids = [np.array([number], np.int64) for number in (1, 99, 2)]
    answers = running.ask(line, [[Tensor.of("id", number)] for number in ids])
    assert [isinstance(answer, list) for answer in answers] == [True, False, True]
    told = seen(line)
    assert told.failures == (Unanswered("execution_failed", "execution_failed", 1),)
    # The three together, and then the bad one alone; the good ones went well alone.
    assert (told.failed_runs, told.executions, told.successes, told.rows) == (2, 2, 2, 2)
    assert told.infer_ns == sum(runs.infer_ns for runs in told.runs)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 traps on this division")
def test_counting_of_a_request_that_kills_its_workers(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = models.divider(tmp_path_factory.mktemp("models") / "divider.onnx")
    with fleet(1) as running:
        line = running.open(path, ROWS, LineSettings())
        running.ask(line, [[Tensor.of("x", np.array([-1], np.int64))]])
        told = seen(line)
        assert told.failures == (Unanswered("internal", "crashed_the_worker", 1),)
        # Once in a worker that serves, and once more in one that does not.
        assert (told.failed_runs, told.executions, told.successes) == (2, 0, 0)

        async def back() -> None:
            async with asyncio.timeout(30):
                while running.supervisor.statistics()[0].restarts < 1:
                    await asyncio.sleep(0.01)

        running.run(back())
        (place,) = running.supervisor.statistics()
        assert place.name == "cpu-0"
        assert place.usage is not None
