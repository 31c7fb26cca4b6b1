"""Keeps the workers running: starts them, replaces those that end or outgrow, watches over them."""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from serving.channel.messages import Load, Loaded, leniently
from serving.errors import LoadError, ServingError, Unavailable
from serving.master.backoff import restart_delay
from serving.master.crashes import LOOP, WINDOW_S, CrashLog
from serving.master.memory import own_mb
from serving.master.quarantine import Quarantine
from serving.master.recycling import Growth, outgrown
from serving.master.trials import Trials
from serving.master.usage import usage_of
from serving.master.watchdog import Watchdog
from serving.master.worker import UnreadyWorker, Worker, WorkerSpec
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.suspicion import Cause
from serving.statistics import WorkerStatistics

_log = logging.getLogger("serving.supervisor")

_HELLO_TIMEOUT_S = 60.0
_LOAD_TRIES = 3
_STARTS_IN_VAIN = 3
_LEAVE_S = 5.0
_MEMORY_LOOK_S = 2.0
_LEAST_BETWEEN_S = 60.0
"""A place gets no fresh worker for its memory's sake so soon after the last one."""
_LAST_LINES = 3


class Supervisor:
    """Owns the worker processes; implements ``lifecycle.Fleet``. Event loop only.

    ``on_condemned`` is told of a model that keeps ending its workers or cannot be loaded again,
    and why. ``silence_s`` is for how long a worker may give no sign of life (0: for ever), and
    ``memory_limit_mb`` what it may hold before it is replaced (0: no limit).
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        workers: int,
        log_level: str,
        silence_s: float = 10.0,
        memory_limit_mb: int = 0,
    ) -> None:
        self._scheduler = scheduler
        self._count = workers
        self._log_level = log_level
        self._memory_limit_mb = memory_limit_mb
        self._places: dict[str, Worker] = {}
        self._processes: set[Worker] = set()
        self._orders: dict[int, tuple[Load, float]] = {}
        self._ends: dict[str, collections.deque[float]] = {}
        self._restarts: collections.Counter[str] = collections.Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._trials = Trials(scheduler, self, log_level)
        self._quarantine = Quarantine(scheduler, self._orders.get, log_level)
        self._watchdog = Watchdog(self._watched, scheduler.flights, silence_s)
        self._crashes = CrashLog()
        self._growth: dict[Worker, Growth] = {}
        self._renewing = asyncio.Lock()
        self._renewed: dict[str, float] = {}
        self._in_renewal = ""
        self._stopping = False
        self.on_condemned: Callable[[int, str], None] = lambda _model, _reason: None

    async def start(self) -> None:
        """Start all workers side by side; raises Unavailable when one cannot be started."""
        self._scheduler.endings.apart = self._quarantine
        self._watchdog.start()
        await asyncio.gather(*[self._start(_name(i)) for i in range(self._count)])
        if self._memory_limit_mb:
            self._task(self._mind_memory())

    async def stop(self, deadline_s: float) -> None:
        """Ask workers to leave, and kill those that are still there after the deadline."""
        self._stopping = True
        self._watchdog.stop()
        await self._quarantine.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        everyone = self._everyone()
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
        for worker in self._everyone():
            worker.kill()

    @property
    def workers(self) -> list[Worker]:
        """The serving workers that are up."""
        return [worker for worker in self._places.values() if not worker.lost]

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
        for left in reversed(range(_LOAD_TRIES)):
            await self._someone_up(timeout_s)
            self._orders[order.model] = (order, timeout_s)
            workers = self.workers
            loads = [self._load_into(w, order, timeout_s, on_phase) for w in workers]
            results = await asyncio.gather(*loads, return_exceptions=True)
            self._scheduler.count_slots()
            for result in results:
                if isinstance(result, Loaded):
                    self._orders[order.model] = (leniently(order), timeout_s)
                    return result
            if not left or not all(_ended_from_outside(worker) for worker in workers):
                break
            # Its proof has shown that it can be loaded: what ended all workers was not the load.
        del self._orders[order.model]
        for result in results:
            if isinstance(result, ServingError):
                raise result
        raise LoadError("every worker was lost while loading it")

    async def unload(self, model: int) -> None:
        """Unload from every worker; see ``Fleet``."""
        self._orders.pop(model, None)
        self._crashes.forget(model)
        await asyncio.gather(*[self._unload_from(worker, model) for worker in self.workers])
        self._scheduler.count_slots()

    # -- WorkerEvents ----------------------------------------------------------------------------

    def worker_lost(self, worker: Worker) -> None:
        """Take its requests back."""
        for slot in worker.slots:
            self._scheduler.slot_lost(slot, worker.loss)

    def worker_reaped(self, worker: Worker) -> None:
        """Free what it could write to, and start another in its place."""
        assert worker.loss is not None
        ran = self._note_crash(worker)
        for slot in worker.slots:
            self._scheduler.slot_reaped(slot, worker.loss)
        self._processes.discard(worker)
        self._growth.pop(worker, None)
        if self._stopping or worker.stopping or self._places.get(worker.name) is not worker:
            return
        _log.error(
            "worker ended: %s", worker.ending(),
            extra={"worker": worker.name, "pid": worker.pid},
        )  # fmt: skip
        if worker.name != self._in_renewal:
            self._task(self._replace(worker.name, counts=not ran))

    # -- inside --------------------------------------------------------------------------------

    def _everyone(self) -> list[Worker]:
        return [*self._processes, *self._trials.workers, *self._quarantine.workers]

    def _watched(self) -> list[Worker]:
        """Return the workers that run batches."""
        return [*self._processes, *self._quarantine.workers]

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _spawn(self, name: str) -> Worker:
        """Start a process that is sent nothing yet."""
        spec = WorkerSpec(name, log_level=self._log_level)
        worker = await UnreadyWorker(spec, self._scheduler, self).start(_HELLO_TIMEOUT_S)
        self._processes.add(worker)
        self._growth[worker] = Growth(own_mb(worker.pid))
        return worker

    async def _start(self, name: str) -> Worker:
        worker = await self._spawn(name)
        self._put(name, worker)
        return worker

    def _put(self, name: str, worker: Worker) -> None:
        """Give a place to a worker, and use it."""
        self._places[name] = worker
        for slot in worker.slots:
            self._scheduler.add_slot(slot)

    async def _someone_up(self, timeout_s: float) -> None:
        """Wait while all workers are being replaced; raises LoadError when none comes back."""
        limit = time.monotonic() + timeout_s
        while not self.workers:
            if time.monotonic() > limit:
                raise LoadError(f"no worker came up within {timeout_s:g} s to load it")
            await asyncio.sleep(0.02)

    async def _replace(self, name: str, *, counts: bool) -> None:
        """Start a worker again, ever slower if it keeps ending, and load what it should have.

        An end that ``counts`` not is a run's doing, and the version's own affair: other servables
        need not wait for it.
        """
        ends = self._ends.setdefault(name, collections.deque(maxlen=16))
        in_vain = 0
        while True:
            if counts:
                ends.append(time.monotonic())
                delay_s = restart_delay(list(ends), ends[-1])
                if delay_s:
                    _log.warning("restarting in %.1f s", delay_s, extra={"worker": name})
                    await asyncio.sleep(delay_s)
            try:
                worker = await self._start(name)
            except Unavailable as error:
                _log.error("%s", error, extra={"worker": name})
                counts = True
                in_vain += 1
                if in_vain >= _STARTS_IN_VAIN and not self.workers:
                    self._scheduler.give_up(str(error))
                continue
            self._restarts[name] += 1
            _log.info("worker is back", extra={"worker": name, "pid": worker.pid})
            await self._fill(worker)
            return

    async def _fill(self, worker: Worker) -> bool:
        """Load what every worker should have; returns whether it has all of it."""
        failed: set[int] = set()
        while not worker.lost:
            there = worker.models | failed
            missing = [order for model, order in self._orders.items() if model not in there]
            for model in worker.models - self._orders.keys():
                await worker.unload(model)  # it was unloaded everywhere else in the meantime
            if not missing:
                break
            order, timeout_s = missing[0]
            try:
                await self._load_into(worker, order, timeout_s)
            except LoadError as error:
                _log.error("%s", error, extra={"worker": worker.name, "servable": order.name})
                failed.add(order.model)
                self._not_again(worker, order.model, str(error))
            self._scheduler.count_slots()
        if worker in self._growth:
            self._growth[worker].fresh_mb = own_mb(worker.pid)
        return not failed and not worker.lost

    async def _load_into(
        self,
        worker: Worker,
        order: Load,
        timeout_s: float,
        on_phase: Callable[[str], None] | None = None,
    ) -> Loaded:
        quiet, before_mb = not worker.loading, own_mb(worker.pid)
        loaded = await worker.load(order, timeout_s, on_phase)
        if quiet and not worker.loading and worker in self._growth:
            self._growth[worker].loaded(order.model, before_mb, own_mb(worker.pid))
        return loaded

    async def _unload_from(self, worker: Worker, model: int) -> None:
        quiet, before_mb = not worker.loading, own_mb(worker.pid)
        await worker.unload(model)
        growth = self._growth.get(worker)
        if growth is None or worker.lost:
            return
        if quiet and not worker.loading:
            growth.unloaded(model, before_mb, own_mb(worker.pid))
        else:
            growth.forget(model)
        if growth.leaked:
            why = f"it kept {growth.kept_mb} MiB of what it had unloaded"
            self._task(self._renew(worker, why))

    # -- what keeps ending workers -------------------------------------------------------------

    def _note_crash(self, worker: Worker) -> bool:
        """Hold a crash against what ran; returns whether something did."""
        assert worker.loss is not None
        if worker.loss.cause is Cause.ENDED:
            return False
        flights = [self._scheduler.flights.get(slot.busy) for slot in worker.slots]
        for flight in flights:
            hung = worker.loss.cause is Cause.HUNG
            if flight is not None and not flight.suspect and (flight.overdue or not hung):
                self._hold_against(flight.line.model, worker, flight.line.statistics.latest_s)
        return any(flights)

    def _not_again(self, worker: Worker, model: int, reason: str) -> None:
        """A worker that was started again could not load what it had before."""
        if worker.lost and worker.loss is not None and worker.loss.cause is not Cause.HUNG:
            if worker.loss.cause is Cause.CRASHED:
                self._hold_against(model, worker, float("-inf"))
        elif model in self._orders and not any(model in other.models for other in self.workers):
            self._scheduler.strand(model)
            self.on_condemned(model, f"it could not be loaded again: {reason}")

    def _hold_against(self, model: int, worker: Worker, well_s: float) -> None:
        if self._crashes.crashed(model, time.monotonic(), well_s) and model in self._orders:
            assert worker.loss is not None
            said = " | ".join(worker.last_lines(_LAST_LINES))
            self._orders.pop(model)
            self.on_condemned(
                model,
                f"it ended its worker {LOOP} times within {WINDOW_S:g} s and did nothing right in "
                f"between; the last time: {worker.loss.how}" + (f", {said}" if said else ""),
            )

    # -- what outgrew its place ----------------------------------------------------------------

    async def _mind_memory(self) -> None:
        while True:
            await asyncio.sleep(_MEMORY_LOOK_S)
            for worker in self.workers:
                fresh_mb = self._growth[worker].fresh_mb
                held_mb, limit_mb = own_mb(worker.pid), self._memory_limit_mb
                if not worker.loading and outgrown(held_mb, fresh_mb, limit_mb):
                    await self._renew(worker, f"it holds {held_mb} MiB of at most {limit_mb}")

    async def _renew(self, worker: Worker, why: str) -> None:
        """Put a fresh worker in a worker's place, between batches: no request is lost for it."""
        async with self._renewing:
            name, now = worker.name, time.monotonic()
            soon = now - self._renewed.get(name, float("-inf")) < _LEAST_BETWEEN_S
            if soon or worker.lost or self._places.get(name) is not worker:
                return
            self._renewed[name] = now
            self._in_renewal = name
            _log.warning("replacing the worker: %s", why, extra={"worker": name})
            try:
                fresh = await self._fresh(name)
            finally:
                self._in_renewal = ""
            if fresh is None:
                if worker.lost:
                    self._task(self._replace(name, counts=True))
                return
            self._put(name, fresh)
            self._restarts[name] += 1
            await self._dismiss(worker)

    async def _fresh(self, name: str) -> Worker | None:
        """Return a worker that has loaded all that it should have, None if it cannot be had."""
        try:
            fresh = await self._spawn(name)
        except Unavailable as error:
            _log.error("%s", error, extra={"worker": name})
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


def _ended_from_outside(worker: Worker) -> bool:
    return worker.loss is not None and worker.loss.cause is Cause.ENDED


def _name(index: int) -> str:
    return f"cpu-{index}"
