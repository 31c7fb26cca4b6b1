"""Keeps the workers running: starts them, replaces those that end or outgrow, watches over them."""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from serving.channel.messages import Load, Loaded, leniently
from serving.devices import Device, Where
from serving.errors import LoadError, ServingError, Unavailable
from serving.master.backoff import restart_delay
from serving.master.crashes import LOOP, WINDOW_S, CrashLog
from serving.master.memory import own_mb
from serving.master.order_book import OrderBook, Ordered
from serving.master.places import Place
from serving.master.quarantine import Quarantine
from serving.master.recycling import Growth, outgrown
from serving.master.trials import Trials
from serving.master.usage import usage_of
from serving.master.watchdog import Watchdog
from serving.master.worker import DeviceFailed, UnreadyWorker, Worker, WorkerSpec
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.suspicion import Cause
from serving.statistics import WorkerStatistics

_log = logging.getLogger("serving.supervisor")

CPU = Where()

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
        places: Sequence[Place],
        log_level: str,
        silence_s: float = 10.0,
        memory_limit_mb: int = 0,
    ) -> None:
        self._scheduler = scheduler
        self._places = {place.name: place for place in places}
        self._log_level = log_level
        self._memory_limit_mb = memory_limit_mb
        self._in_place: dict[str, Worker] = {}
        self._processes: set[Worker] = set()
        self._orders = OrderBook()
        self._down: dict[str, str] = {}
        self._sent: collections.Counter[str] = collections.Counter()
        self._sent_rows: collections.Counter[str] = collections.Counter()
        self._ends: dict[str, collections.deque[float]] = {}
        self._restarts: collections.Counter[str] = collections.Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._trials = Trials(scheduler, self, log_level)
        self._quarantine = Quarantine(scheduler, self._order_apart, log_level)
        self._watchdog = Watchdog(self._watched, scheduler.flights, silence_s)
        self._crashes = CrashLog()
        self._growth: dict[Worker, Growth] = {}
        self._renewing = asyncio.Lock()
        self._renewed: dict[str, float] = {}
        self._in_renewal = ""
        self._stopping = False
        self.on_condemned: Callable[[int, str], None] = lambda _model, _reason: None

    async def start(self) -> None:
        """Start all workers side by side; raises Unavailable when one cannot be started.

        A place that is not required may be down, if some other is up.
        """
        self._scheduler.endings.apart = self._quarantine
        self._watchdog.start()
        places = self._places.values()
        starts = [self._start(place) for place in places]
        for place, result in zip(
            places, await asyncio.gather(*starts, return_exceptions=True), strict=True
        ):
            if not isinstance(result, BaseException):
                continue
            if place.required or not self.workers or not isinstance(result, Unavailable):
                raise _of_place(place, result)
            _log.error("%s is not used: %s", place.device, result, extra={"worker": place.name})
            self._down[place.name] = str(result)
            self._task(self._replace(place, counts=True))
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
        return [worker for worker in self._in_place.values() if not worker.lost]

    def statistics(self) -> tuple[WorkerStatistics, ...]:
        """Return how each worker's place stands: who is in it now, and how often that changed."""
        up = {worker.name: worker for worker in self.workers}
        return tuple(self._standing(place, up.get(name)) for name, place in self._places.items())

    def _standing(self, place: Place, worker: Worker | None) -> WorkerStatistics:
        name, slots = place.name, [] if worker is None else worker.slots
        return WorkerStatistics(
            name,
            self._restarts[name],
            None if worker is None else usage_of(worker.pid),
            str(place.device),
            place.backend,
            self._down.get(name, ""),
            self._sent[name] + sum(slot.runs for slot in slots),
            self._sent_rows[name] + sum(slot.rows for slot in slots),
        )

    def holders(self, model: int) -> tuple[str, ...]:
        """Return the workers that have a model loaded, by name."""
        up = {worker.name for worker in self.workers if model in worker.models}
        return tuple(name for name in self._places if name in up)

    # -- Fleet ---------------------------------------------------------------------------------

    async def try_out(self, order: Load, timeout_s: float, where: Where = CPU) -> Loaded:
        """Load and prove in a worker that serves nobody; see ``Fleet``.

        A lost device says nothing about the model: it is tried on the next one.
        """
        places = [p for p in self._places.values() if where.holds(p.device)] or [Place()]
        up = [place for place in places if place.name not in self._down] or places
        candidates = up[:1] if where.kind == "cpu" else up
        for place in candidates[:-1]:
            try:
                return await self._trials.try_out(order, timeout_s, place)
            except DeviceFailed as error:
                _log.error("%s", error, extra={"servable": order.name})
        return await self._trials.try_out(order, timeout_s, candidates[-1])

    async def load(
        self,
        order: Load,
        timeout_s: float,
        on_phase: Callable[[str], None],
        where: Where = CPU,
    ) -> Loaded:
        """Load into every worker of a kind, and into those that start later; see ``Fleet``."""
        for left in reversed(range(_LOAD_TRIES)):
            await self._someone_up(where, timeout_s)
            self._orders.put(where, Ordered(order, timeout_s))
            workers = self._at(where)
            loads = [self._load_into(w, order, timeout_s, on_phase) for w in workers]
            results = await asyncio.gather(*loads, return_exceptions=True)
            self._scheduler.count_slots()
            loaded = [result for result in results if isinstance(result, Loaded)]
            if loaded:
                _tell_failures(order, workers, results)
                self._orders.put(where, Ordered(leniently(order), timeout_s))
                return loaded[0]
            if not left or not all(_ended_from_outside(worker) for worker in workers):
                break
            # Its proof has shown that it can be loaded: what ended all workers was not the load.
        self._orders.take_back(order.model, where)
        for result in results:
            if isinstance(result, ServingError):
                raise result
        raise LoadError("every worker was lost while loading it")

    async def unload(self, model: int, where: Where | None = None) -> None:
        """Unload from every worker; see ``Fleet``."""
        self._orders.take_back(model, where)
        if where is None:
            self._crashes.forget(model)
        workers = self.workers if where is None else self._at(where)
        await asyncio.gather(*[self._unload_from(worker, model) for worker in workers])
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
            self._sent[worker.name] += slot.runs
            self._sent_rows[worker.name] += slot.rows
        self._processes.discard(worker)
        self._growth.pop(worker, None)
        if self._stopping or worker.stopping or self._in_place.get(worker.name) is not worker:
            return
        _log.error(
            "worker ended: %s", worker.ending(),
            extra={"worker": worker.name, "pid": worker.pid},
        )  # fmt: skip
        if worker.name != self._in_renewal:
            self._task(self._replace(worker.spec.place, counts=not ran))

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

    def _at(self, where: Where) -> list[Worker]:
        return [worker for worker in self.workers if where.holds(worker.device)]

    def _order_apart(self, model: int, device: Device) -> tuple[Load, float, Place] | None:
        """Return how a model is loaded apart, on the device where it made a suspect."""
        ordered = self._orders.of(model, device)
        if ordered is None:
            return None
        place = next(p for p in self._places.values() if p.device == device)
        return ordered.load, ordered.timeout_s, place

    async def _spawn(self, place: Place) -> Worker:
        """Start a process that is sent nothing yet."""
        spec = WorkerSpec(place.name, place, place.slots, self._log_level)
        worker = await UnreadyWorker(spec, self._scheduler, self).start(_HELLO_TIMEOUT_S)
        self._processes.add(worker)
        self._growth[worker] = Growth(own_mb(worker.pid))
        return worker

    async def _start(self, place: Place) -> Worker:
        worker = await self._spawn(place)
        self._put(place.name, worker)
        return worker

    def _put(self, name: str, worker: Worker) -> None:
        """Give a place to a worker, and use it."""
        self._in_place[name] = worker
        self._down.pop(name, None)
        for slot in worker.slots:
            self._scheduler.add_slot(slot)

    async def _someone_up(self, where: Where, timeout_s: float) -> None:
        """Wait for the first workers of a kind to come up, and while all are being replaced.

        Raises LoadError when none comes; places that are down are not waited for.
        """
        limit = time.monotonic() + timeout_s
        names = [p.name for p in self._places.values() if where.holds(p.device)]
        while True:
            down = [self._down[name] for name in names if name in self._down]
            settled = all(name in self._in_place or name in self._down for name in names)
            if settled and self._at(where):
                return
            if len(down) == len(names) and where.kind != "cpu":
                said = down[0] if down else "the server has no such device"
                raise LoadError(f"no {where.kind} worker is up to load it: {said}")
            if time.monotonic() > limit:
                raise LoadError(f"no worker came up within {timeout_s:g} s to load it")
            await asyncio.sleep(0.02)

    async def _replace(self, place: Place, *, counts: bool) -> None:
        """Start a worker again, ever slower if it keeps ending, and load what it should have.

        An end that ``counts`` not is a run's doing, and the version's own affair: other servables
        need not wait for it.
        """
        name = place.name
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
                worker = await self._start(place)
            except Unavailable as error:
                _log.error("%s", error, extra={"worker": name})
                counts = True
                in_vain += 1
                if in_vain >= _STARTS_IN_VAIN:
                    self._down[name] = str(error)
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
            wanted = list(self._orders.for_device(worker.device))
            missing = [ordered for ordered in wanted if ordered.load.model not in there]
            for model in worker.models - {ordered.load.model for ordered in wanted}:
                await worker.unload(model)  # it was unloaded everywhere else in the meantime
            if not missing:
                break
            order, timeout_s = missing[0].load, missing[0].timeout_s
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
        if worker.loss.cause in (Cause.ENDED, Cause.DEVICE):
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
            self._orders.take_back(model)
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
            if soon or worker.lost or self._in_place.get(name) is not worker:
                return
            if worker.device.kind != "cpu":
                return  # a device seldom has room for all models twice
            self._renewed[name] = now
            self._in_renewal = name
            _log.warning("replacing the worker: %s", why, extra={"worker": name})
            try:
                fresh = await self._fresh(worker.spec.place)
            finally:
                self._in_renewal = ""
            if fresh is None:
                if worker.lost:
                    self._task(self._replace(worker.spec.place, counts=True))
                return
            self._put(name, fresh)
            self._restarts[name] += 1
            await self._dismiss(worker)

    async def _fresh(self, place: Place) -> Worker | None:
        """Return a worker that has loaded all that it should have, None if it cannot be had."""
        try:
            fresh = await self._spawn(place)
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


def _ended_from_outside(worker: Worker) -> bool:
    return worker.loss is not None and worker.loss.cause in (Cause.ENDED, Cause.DEVICE)


def _of_place(place: Place, error: BaseException) -> BaseException:
    """Name the device whose worker could not be started."""
    if place.device.kind == "cpu" or not isinstance(error, Unavailable):
        return error
    return Unavailable(f"{place.device} cannot be used: {error}")


def _tell_failures(
    order: Load, workers: Sequence[Worker], results: Sequence[Loaded | BaseException]
) -> None:
    """Log where a model could not be loaded that was loaded elsewhere."""
    for worker, result in zip(workers, results, strict=True):
        if isinstance(result, LoadError) and not worker.lost:
            _log.error(
                "%s does not serve it: %s", worker.device, result,
                extra={"worker": worker.name, "servable": order.name},
            )  # fmt: skip
