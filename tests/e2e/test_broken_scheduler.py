"""A fault of the scheduler's own costs the requests it met, never one that waits for ever."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from serving.errors import InternalError
from serving.scheduling.line import Line, LineSettings
from serving.tensor import BatchAxes, Tensor
from tests import models
from tests.e2e.fleet import Answer, Fleet, fleet

ROWS = BatchAxes(True, "test", (0,), (0,))


@pytest.fixture(scope="module")
def running() -> Iterator[Fleet]:
    with fleet(1) as running:
        yield running


@pytest.fixture(scope="module")
def line(running: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Line:
    path = models.variable_width(tmp_path_factory.mktemp("models") / "width.onnx")
    return running.open(path, ROWS, LineSettings())


def ask(running: Fleet, line: Line) -> list[Answer]:
    async def story() -> list[Answer]:
        async with asyncio.timeout(30):
            tickets = []
            for _ in range(3):
                row = np.ones((1, 3), np.float32)
                tickets.append(running.claim(line, [Tensor.of("x", row)]))
                running.scheduler.commit(tickets[-1])
            return [await running.answer(ticket) for ticket in tickets]

    return running.run(story())


@pytest.mark.parametrize(
    "place",
    [
        "serving.scheduling.pump.decide",
        "serving.scheduling.pump.Run",
        "serving.scheduling.slot.Slot._lend",
        "serving.scheduling.endings.respond",
    ],
)
def test_scheduler_that_breaks_refuses_what_it_met_and_goes_on(
    running: Fleet, line: Line, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def broken(*_args: Any) -> None:
        raise ZeroDivisionError("a fault of our own")

    with monkeypatch.context() as patch:
        patch.setattr(place, broken)
        for answer in ask(running, line):
            assert isinstance(answer, InternalError)
            assert "ZeroDivision" not in str(answer)
    for answer in ask(running, line):
        assert isinstance(answer, list)
    assert (line.waiting, line.outstanding, running.scheduler.running) == (0, 0, 0)
