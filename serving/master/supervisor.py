"""Answers for the workers: starts and stops them, loads into all, judges why they end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from serving.channel.messages import Load, Loaded, leniently
from serving.devices import Device, Where
from serving.errors import LoadError, ServingError, Unavailable
from serving.master.crashes import LOOP, WINDOW_S, CrashLog
from serving.master.crew import Crew
from serving.master.order_book import OrderBook, Ordered
from serving.master.places import Place
from serving.master.quarantine import Quarantine
from serving.master.renewal import Renewal
from serving.master.trials import Trials
from serving.master.watchdog import Watchdog
from serving.master.worker import DeviceFailed, Worker
from serving.repository.priority import of_background
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.suspicion import Cause
from serving.statistics import WorkerStatistics

_log = logging.getLogger("serving.supervisor")

CPU = Where()

_LOAD_TRIES = 3
_LAST_LINES = 3


class Supervisor:
    """Owns the worker processes; implements ``lifecycle.Fleet``. Event loop only.

    ``on_condemned`` is told of a model that keeps ending its workers or cannot be loaded again,
    and why. ``silence_s`` is for how long a worker may give no sign of life (0: for ever), and
    ``memory_limit_mb`` what it may hold before it is replaced (0: no limit). ``nice`` is added to
    the niceness of workers; for ``busy_poll_us`` see ``WorkerSpec``.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        places: Sequence[Place],
        log_level: str,
        silence_s: float = 10.0,
        memory_limit_mb: int = 0,
        nice: int = 0,
        busy_poll_us: int = 0,
    ) -> None:
        self._scheduler = scheduler
        self._memory_limit_mb = memory_limit_mb
        self._orders = OrderBook()
        self._crew = Crew(
            scheduler, places, self, log_level=log_level, nice=nice, busy_poll_us=busy_poll_us
        )
        self._renewal = Renewal(self._crew, self._orders, scheduler, self._not_again)
        self._trials = Trials(scheduler, self, log_level, of_background(nice))
        self._quarantine = Quarantine(scheduler, self._order_apart, log_level, nice)
        self._watchdog = Watchdog(self._watched, scheduler.flights, silence_s)
        self._crashes = CrashLog()
        self._stopping = False
        self.on_condemned: Callable[[int, str], None] = lambda _model, _reason: None

    async def start(self) -> None:
        """Start all workers side by side; raises Unavailable when one cannot be started.

        A place that is not required may be down, if some other is up.
        """
        self._scheduler.endings.apart = self._quarantine
        self._watchdog.start()
        places = self._crew.places.values()
        starts = [self._crew.start(place) for place in places]
        for place, result in zip(
            places, await asyncio.gather(*starts, return_exceptions=True), strict=True
        ):
            if not isinstance(result, BaseException):
                continue
            if place.required or not self.workers or not isinstance(result, Unavailable):
                raise _of_place(place, result)
            _log.error("%s is not used: %s", place.device, result, extra={"worker": place.name})
            self._crew.down[place.name] = str(result)
            self._renewal.replace(place, counts=True)
        if self._memory_limit_mb:
            self._renewal.mind_memory(self._memory_limit_mb)

    async def stop(self, deadline_s: float) -> None:
        """Ask workers to leave, and kill those that are still there after the deadline."""
        self._stopping = True
        self._watchdog.stop()
        await self._quarantine.stop()
        await self._renewal.stop()
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
        return self._crew.workers

    def statistics(self) -> tuple[WorkerStatistics, ...]:
        """Return how each worker's place stands: who is in it now, and how often that changed."""
        return self._crew.statistics()

    def holders(self, model: int) -> tuple[str, ...]:
        """Return the workers that have a model loaded, by name."""
        return self._crew.holders(model)

    # -- Fleet ---------------------------------------------------------------------------------

    async def try_out(self, order: Load, timeout_s: float, where: Where = CPU) -> Loaded:
        """Load and prove in a worker that serves nobody; see ``Fleet``.

        A lost device says nothing about the model: it is tried on the next one.
        """
        places = [p for p in self._crew.places.values() if where.holds(p.device)] or [Place()]
        up = [place for place in places if place.name not in self._crew.down] or places
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
            await self._crew.someone_up(where, timeout_s)
            self._orders.put(where, Ordered(order, timeout_s))
            workers = self._crew.at(where)
            loads = [self._crew.load_into(w, order, timeout_s, on_phase) for w in workers]
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
        workers = self.workers if where is None else self._crew.at(where)
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
        self._crew.gone(worker)
        if self._stopping or worker.stopping or not self._crew.holds(worker):
            return
        _log.error(
            "worker ended: %s", worker.ending(),
            extra={"worker": worker.name, "pid": worker.pid},
        )  # fmt: skip
        self._renewal.replace(worker.spec.place, counts=not ran)

    # -- inside --------------------------------------------------------------------------------

    def _everyone(self) -> list[Worker]:
        return [*self._crew.processes, *self._trials.workers, *self._quarantine.workers]

    def _watched(self) -> list[Worker]:
        """Return the workers that run batches."""
        return [*self._crew.processes, *self._quarantine.workers]

    def _order_apart(self, model: int, device: Device) -> tuple[Load, float, Place] | None:
        """Return how a model is loaded apart, on the device where it made a suspect."""
        ordered = self._orders.of(model, device)
        if ordered is None:
            return None
        place = next(p for p in self._crew.places.values() if p.device == device)
        return ordered.load, ordered.timeout_s, place

    async def _unload_from(self, worker: Worker, model: int) -> None:
        why = await self._crew.unload_from(worker, model)
        if why:
            self._renewal.renew_soon(worker, why)

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
