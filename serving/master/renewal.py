"""Puts another worker where one has ended, or has outgrown its place, with all that it should have.

One that has ended leaves its place empty until the next one is up; one that has outgrown its place
goes when a fresh one stands ready, so that no request is lost for it.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from serving.errors import LoadError, Unavailable
from serving.master.backoff import restart_delay
from serving.master.crew import Crew
from serving.master.memory import own_mb
from serving.master.order_book import OrderBook
from serving.master.places import Place
from serving.master.recycling import outgrown
from serving.master.worker import Worker
from serving.scheduling.scheduler import Scheduler

_log = logging.getLogger("serving.supervisor")

_STARTS_IN_VAIN = 3
_LEAVE_S = 5.0
_MEMORY_LOOK_S = 2.0
_LEAST_BETWEEN_S = 60.0
"""A place gets no fresh worker for its memory's sake so soon after the last one."""


class Renewal:
    """Owns what is under way to fill places again. Event loop only.

    ``orders`` are what workers should have; ``on_not_again`` is told of a worker, a model that it
    could not load though one before it could, and why.
    """

    def __init__(
        self,
        crew: Crew,
        orders: OrderBook,
        scheduler: Scheduler,
        on_not_again: Callable[[Worker, int, str], None],
    ) -> None:
        self._crew = crew
        self._orders = orders
        self._scheduler = scheduler
        self._on_not_again = on_not_again
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: dict[str, collections.deque[float]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._renewed: dict[str, float] = {}
        self._under_way = ""

    def replace(self, place: Place, *, counts: bool) -> None:
        """Begin to start a worker again.

        An end that ``counts`` not is a run's doing, and the version's own affair: other servables
        need not wait for it. A place that is being renewed is seen to already.
        """
        if place.name != self._under_way:
            self._task(self._replace(place, counts=counts))

    def renew_soon(self, worker: Worker, why: str) -> None:
        """Begin to put a fresh worker in a worker's place."""
        self._task(self.renew(worker, why))

    def mind_memory(self, limit_mb: int) -> None:
        """Replace workers that hold more than a limit from now on."""
        self._task(self._mind_memory(limit_mb))

    async def stop(self) -> None:
        """Begin nothing more, and end what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def renew(self, worker: Worker, why: str) -> None:
        """Put a fresh worker in a worker's place, between batches: no request is lost for it."""
        async with self._one_at_a_time:
            name, now = worker.name, time.monotonic()
            soon = now - self._renewed.get(name, float("-inf")) < _LEAST_BETWEEN_S
            if soon or worker.lost or not self._crew.holds(worker):
                return
            if worker.device.kind != "cpu":
                return  # a device seldom has room for all models twice
            self._renewed[name] = now
            self._under_way = name
            _log.warning("replacing the worker: %s", why, extra={"worker": name})
            try:
                fresh = await self._fresh(worker.spec.place)
            finally:
                self._under_way = ""
            if fresh is None:
                if worker.gone.is_set():  # else it is replaced once it has been reaped
                    self.replace(worker.spec.place, counts=True)
                return
            self._crew.put(fresh)
            self._crew.count_restart(fresh)
            await self._dismiss(worker)

    # -- inside --------------------------------------------------------------------------------

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self, place: Place, *, counts: bool) -> None:
        """Start a worker, ever slower if it keeps ending, and load what it should have."""
        name = place.name
        in_vain = 0
        while True:
            if counts:
                await self._pause(name)
            try:
                worker = await self._crew.start(place)
            except Unavailable as error:
                _log.error("%s", error, extra={"worker": name})
                counts = True
                in_vain += 1
                if in_vain >= _STARTS_IN_VAIN:
                    self._crew.down[name] = str(error)
                if in_vain >= _STARTS_IN_VAIN and not self._crew.workers:
                    self._scheduler.give_up(str(error))
                continue
            self._crew.count_restart(worker)
            _log.info("worker is back", extra={"worker": name, "pid": worker.pid})
            await self._fill(worker)
            return

    async def _pause(self, name: str) -> None:
        ends = self._ends.setdefault(name, collections.deque(maxlen=16))
        ends.append(time.monotonic())
        delay_s = restart_delay(list(ends), ends[-1])
        if delay_s:
            _log.warning("restarting in %.1f s", delay_s, extra={"worker": name})
            await asyncio.sleep(delay_s)

    async def _fill(self, worker: Worker) -> bool:
        """Load what every worker should have; returns whether it has all of it."""
        failed: set[int] = set()
        while not worker.lost:
            there = worker.models | failed
            wanted = list(self._orders.for_device(worker.device))
            missing = [ordered for ordered in wanted if ordered.load.model not in there]
            for model in worker.models - {ordered.load.model for ordered in wanted}:
                await worker.unload(model)  # it was unloaded everywhere else in the meantime
            if not missing:
                break
            order, timeout_s = missing[0].load, missing[0].timeout_s
            try:
                await self._crew.load_into(worker, order, timeout_s)
            except LoadError as error:
                _log.error("%s", error, extra={"worker": worker.name, "servable": order.name})
                failed.add(order.model)
                self._on_not_again(worker, order.model, str(error))
            self._scheduler.count_slots()
        self._crew.filled(worker)
        return not failed and not worker.lost

    async def _mind_memory(self, limit_mb: int) -> None:
        while True:
            await asyncio.sleep(_MEMORY_LOOK_S)
            for worker in self._crew.workers:
                if worker.lost or worker.loading:
                    continue
                fresh_mb, held_mb = self._crew.fresh_mb(worker), own_mb(worker.pid)
                if outgrown(held_mb, fresh_mb, limit_mb):
                    await self.renew(worker, f"it holds {held_mb} MiB of at most {limit_mb}")

    async def _fresh(self, place: Place) -> Worker | None:
        """Return a worker that has loaded all that it should have, None if it cannot be had."""
        try:
            fresh = await self._crew.spawn(place)
        except Unavailable as error:
            _log.error("%s", error, extra={"worker": place.name})
            return None
        if await self._fill(fresh):
            return fresh
        fresh.stopping = True
        fresh.kill()
        return None

    async def _dismiss(self, worker: Worker) -> None:
        """Let a worker finish what it is at, and leave."""
        for slot in worker.slots:
            self._scheduler.remove_slot(slot)
        while any(slot.busy for slot in worker.slots) and not worker.lost:
            await asyncio.sleep(0.005)  # the watchdog bounds it
        if not worker.lost:
            worker.stop()
        try:
            async with asyncio.timeout(_LEAVE_S):
                await worker.gone.wait()
        except TimeoutError:
            worker.kill()
            await worker.gone.wait()
        _log.info("worker is replaced", extra={"worker": worker.name, "pid": worker.pid})
