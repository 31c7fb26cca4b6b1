"""Workers are looked at one after the other, and may end while another one is being replaced."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import pytest

from serving.devices import Device
from serving.master import renewal
from serving.master.crew import Crew
from serving.master.order_book import OrderBook
from serving.master.places import Place
from serving.master.renewal import Renewal
from serving.master.worker import Worker, WorkerSpec
from serving.scheduling.scheduler import Scheduler


@dataclass(eq=False)
class Held:
    """A worker, as far as its memory is minded."""

    pid: int
    lost: bool = False
    loading: bool = False


class Ending:
    """A worker, as far as its place is renewed."""

    name = "cpu-0"
    device = Device()
    spec = WorkerSpec(name)

    def __init__(self) -> None:
        self.lost = False
        self.gone = asyncio.Event()


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


@pytest.mark.parametrize("reaped", [False, True])
async def test_worker_that_ends_while_no_fresh_one_can_be_had_is_replaced_once(
    monkeypatch: pytest.MonkeyPatch, reaped: bool
) -> None:
    """Whoever reaps it replaces it, but not while its place is being renewed."""
    worker = Ending()
    crew = SimpleNamespace(holds=lambda _: True)
    renewing = Renewal(cast(Crew, crew), OrderBook(), cast(Scheduler, None), lambda *_: None)
    replaced: list[Place] = []

    async def fresh(place: Place) -> None:
        worker.lost = True
        if reaped:
            worker.gone.set()
            renewing.replace(place, counts=True)  # ignored: the place is being renewed

    async def replace(place: Place, *, counts: bool) -> None:
        assert counts
        replaced.append(place)

    monkeypatch.setattr(renewing, "_fresh", fresh)
    monkeypatch.setattr(renewing, "_replace", replace)
    await renewing.renew(cast(Worker, worker), "a test")
    if not reaped:
        renewing.replace(worker.spec.place, counts=True)
    await asyncio.sleep(0)
    await renewing.stop()
    assert replaced == [worker.spec.place]
