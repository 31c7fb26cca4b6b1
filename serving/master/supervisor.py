"""Keeps the workers running: starts them, replaces those that end, and tries models out apart."""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from collections.abc import Callable

from serving.channel.messages import Load, Loaded
from serving.errors import LoadError, ServingError, Unavailable
from serving.master.backoff import restart_delay
from serving.master.trials import Trials
from serving.master.usage import usage_of
from serving.master.worker import UnreadyWorker, Worker, WorkerSpec
from serving.scheduling.scheduler import Scheduler
from serving.statistics import WorkerStatistics

_log = logging.getLogger("serving.supervisor")

_HELLO_TIMEOUT_S = 60.0


class Supervisor:
    """Owns the worker processes; implements ``lifecycle.Fleet``. Event loop only."""

    def __init__(self, scheduler: Scheduler, *, workers: int, log_level: str) -> None:
        self._scheduler = scheduler
        self._count = workers
        self._log_level = log_level
        self._workers: dict[str, Worker] = {}
        self._orders: dict[int, tuple[Load, float]] = {}
        self._ends: dict[str, collections.deque[float]] = {}
        self._restarts: collections.Counter[str] = collections.Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._trials = Trials(scheduler, self, log_level)
        self._stopping = False

    async def start(self) -> None:
        """Start all workers side by side; raises Unavailable when one cannot be started."""
        await asyncio.gather(*[self._start(_name(i)) for i in range(self._count)])

    async def stop(self, deadline_s: float) -> None:
        """Ask workers to leave, and kill those that are still there after the deadline."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        everyone = [*self._workers.values(), *self._trials.workers]
        for worker in everyone:
            worker.stop()
        try:
            async with asyncio.timeout(deadline_s):
                for worker in everyone:
                    await worker.gone.wait()
        except TimeoutError:
            for worker in everyone:
                worker.kill()
            for worker in everyone:
                await worker.gone.wait()

    def kill(self) -> None:
        """End every worker at once."""
        self._stopping = True
        for worker in [*self._workers.values(), *self._trials.workers]:
            worker.kill()

    @property
    def workers(self) -> list[Worker]:
        """The serving workers that are up."""
        return [worker for worker in self._workers.values() if not worker.lost]

    def statistics(self) -> tuple[WorkerStatistics, ...]:
        """Return how each worker's place stands: who is in it now, and how often that changed."""
        up = {worker.name: worker.pid for worker in self.workers}
        return tuple(
            WorkerStatistics(name, self._restarts[name], usage_of(up[name]) if name in up else None)
            for name in map(_name, range(self._count))
        )

    # -- Fleet ---------------------------------------------------------------------------------

    async def try_out(self, order: Load, timeout_s: float) -> Loaded:
        """Load and prove in a worker that serves nobody; see ``Fleet``."""
        return await self._trials.try_out(order, timeout_s)

    async def load(self, order: Load, timeout_s: float, on_phase: Callable[[str], None]) -> Loaded:
        """Load into every worker, and into those that start later; see ``Fleet``."""
        await self._someone_up(timeout_s)
        self._orders[order.model] = (order, timeout_s)
        loads = [
            asyncio.create_task(worker.load(order, timeout_s, on_phase)) for worker in self.workers
        ]
        results = await asyncio.gather(*loads, return_exceptions=True)
        self._scheduler.count_slots()
        for result in results:
            if isinstance(result, Loaded):
                return result
        del self._orders[order.model]
        for result in results:
            if isinstance(result, ServingError):
                raise result
        raise LoadError("every worker was lost while loading it")

    async def unload(self, model: int) -> None:
        """Unload from every worker; see ``Fleet``."""
        self._orders.pop(model, None)
        await asyncio.gather(*[worker.unload(model) for worker in self.workers])
        self._scheduler.count_slots()

    # -- WorkerEvents ----------------------------------------------------------------------------

    def worker_lost(self, worker: Worker) -> None:
        """Take its requests back."""
        for slot in worker.slots:
            self._scheduler.slot_lost(slot)

    def worker_reaped(self, worker: Worker) -> None:
        """Free what it could write to, and start another in its place."""
        for slot in worker.slots:
            self._scheduler.slot_reaped(slot)
        if self._stopping or worker.stopping or self._workers.get(worker.name) is not worker:
            return
        _log.error(
            "worker ended: %s", worker.last_words(),
            extra={"worker": worker.name, "pid": worker.pid},
        )  # fmt: skip
        task = asyncio.create_task(self._replace(worker.name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- inside --------------------------------------------------------------------------------

    async def _start(self, name: str) -> Worker:
        spec = WorkerSpec(name, log_level=self._log_level)
        worker = await UnreadyWorker(spec, self._scheduler, self).start(_HELLO_TIMEOUT_S)
        self._workers[name] = worker
        for slot in worker.slots:
            self._scheduler.add_slot(slot)
        return worker

    async def _someone_up(self, timeout_s: float) -> None:
        """Wait while all workers are being replaced; raises LoadError when none comes back."""
        limit = time.monotonic() + timeout_s
        while not self.workers:
            if time.monotonic() > limit:
                raise LoadError(f"no worker came up within {timeout_s:g} s to load it")
            await asyncio.sleep(0.02)

    async def _replace(self, name: str) -> None:
        """Start a worker again, ever slower if it keeps ending, and load what it should have."""
        ends = self._ends.setdefault(name, collections.deque(maxlen=16))
        while True:
            ends.append(time.monotonic())
            delay_s = restart_delay(list(ends), ends[-1])
            if delay_s:
                _log.warning("restarting in %.1f s", delay_s, extra={"worker": name})
                await asyncio.sleep(delay_s)
            try:
                worker = await self._start(name)
            except Unavailable as error:
                _log.error("%s", error, extra={"worker": name})
                continue
            self._restarts[name] += 1
            _log.info("worker is back", extra={"worker": name, "pid": worker.pid})
            await self._reload(worker)
            return

    async def _reload(self, worker: Worker) -> None:
        for order, timeout_s in list(self._orders.values()):
            if worker.lost:
                return  # its own end brings the next one
            if order.model not in self._orders:
                continue  # unloaded in the meantime
            try:
                await worker.load(order, timeout_s)
            except LoadError as error:
                _log.error("%s", error, extra={"worker": worker.name, "servable": order.name})
            if order.model not in self._orders:
                await worker.unload(order.model)
            self._scheduler.count_slots()


def _name(index: int) -> str:
    return f"cpu-{index}"
