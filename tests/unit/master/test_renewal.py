"""Workers are looked at one after the other, and may end while another one is being replaced."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

import pytest

from serving.master import renewal
from serving.master.crew import Crew
from serving.master.order_book import OrderBook
from serving.master.renewal import Renewal
from serving.master.worker import Worker
from serving.scheduling.scheduler import Scheduler


@dataclass(eq=False)
class Held:
    """A worker, as far as its memory is minded."""

    pid: int
    lost: bool = False
    loading: bool = False


class CrewOfTwo:
    """Forgets a worker that has ended, as a crew does."""

    def __init__(self) -> None:
        self.workers = [Held(1), Held(2)]

    def fresh_mb(self, worker: Held) -> int:
        return {worker: 100 for worker in self.workers if not worker.lost}[worker]


async def test_memory_is_minded_on_after_a_worker_ended_during_anothers_renewal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(renewal, "_MEMORY_LOOK_S", 0.001)
    monkeypatch.setattr(renewal, "own_mb", lambda _: 900)
    crew = CrewOfTwo()
    minded = Renewal(cast(Crew, crew), OrderBook(), cast(Scheduler, None), lambda *_: None)
    renewed: list[int] = []

    async def renew(worker: Worker, why: str) -> None:
        assert why == "it holds 900 MiB of at most 500"
        renewed.append(worker.pid)
        crew.workers[1].lost = True

    monkeypatch.setattr(minded, "renew", renew)
    minded.mind_memory(500)
    async with asyncio.timeout(10):
        while len(renewed) < 3:
            await asyncio.sleep(0.001)
    await minded.stop()
    assert set(renewed) == {1}
