"""Keeps the stage workers of every generation running: starts them, replaces those that end."""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from collections.abc import Iterable

from serving.errors import LoadError
from serving.master.backoff import restart_delay
from serving.master.stage_worker import StageSpec, StageWorker
from serving.master.usage import usage_of
from serving.master.watchdog import Watchdog
from serving.scheduling.stages.scheduler import StageScheduler
from serving.statistics import WorkerStatistics

__all__ = ["StageFleet", "StageSpec"]

_log = logging.getLogger("serving.stages")

_LEAVE_S = 5.0
_STARTS_IN_VAIN = 2
_LONG_PAUSE_S = 5.0
"""What waits for a worker that pauses longer than this is refused instead."""


class _Place:
    """A place for one worker of a generation, whoever is in it now."""

    def __init__(self, name: str, spec: StageSpec) -> None:
        self.name = name
        self.spec = spec
        self.worker: StageWorker | None = None
        self.ends: collections.deque[float] = collections.deque(maxlen=16)
        self.restarts = 0
        self.replacing: asyncio.Task[None] | None = None

    @property
    def up(self) -> StageWorker | None:
        """The worker that takes runs here, if there is one."""
        worker = self.worker
        return worker if worker is not None and not worker.lost else None


class StageFleet:
    """Owns the stage workers. Event loop only.

    ``silence_s`` is for how long a worker may give no sign of life (0: for ever); ``nice`` is
    added to the niceness of workers.
    """

    def __init__(
        self, scheduler: StageScheduler, *, log_level: str, silence_s: float, nice: int = 0
    ) -> None:
        self._scheduler = scheduler
        self._log_level = log_level
        self._nice = nice
        self._places: dict[int, list[_Place]] = {}
        self._processes: set[StageWorker] = set()
        self._watchdog = Watchdog(self._watched, scheduler.flights, silence_s)
        self._watching = False

    async def start(self, spec: StageSpec) -> None:
        """Start a generation's workers, which ``StageScheduler.open`` has made room for.

        Returns when all have imported the servable; raises LoadError, with the reason and what
        the worker wrote last, after all have been ended again.
        """
        if not self._watching:
            self._watching = True
            self._watchdog.start()
        title = f"stage-{spec.servable}-{spec.generation}"
        places = [_Place(f"{title}.{i}" if i else title, spec) for i in range(spec.workers)]
        self._places[spec.generation] = places
        try:
            async with asyncio.TaskGroup() as group:
                for place in places:
                    group.create_task(self._fill(place))
        except ExceptionGroup as errors:
            await self.stop(spec.generation)
            raise errors.exceptions[0] from None
        except BaseException:
            await self.stop(spec.generation)
            raise

    async def stop(self, generation: int) -> None:
        """End a generation's workers, if it has some; nothing of it waits or runs any more."""
        await self._end(self._places.pop(generation, []), _LEAVE_S)

    async def stop_all(self, deadline_s: float) -> None:
        """Ask all workers to leave, and kill those that are still there after the deadline."""
        self._watchdog.stop()
        places = [place for crew in self._places.values() for place in crew]
        self._places.clear()
        await self._end(places, deadline_s)

    def kill(self) -> None:
        """End every worker at once."""
        for places in self._places.values():
            for place in places:
                if place.replacing is not None:
                    place.replacing.cancel()
        self._places.clear()
        for worker in list(self._processes):
            worker.kill()

    def workers(self, generation: int) -> tuple[StageWorker, ...]:
        """Return the workers of a generation that are up."""
        return tuple(p.up for p in self._places.get(generation, ()) if p.up is not None)

    def statistics(self) -> tuple[WorkerStatistics, ...]:
        """Return how the place of each worker stands."""
        return tuple(
            WorkerStatistics(
                place.name, place.restarts, usage_of(place.up.pid) if place.up else None
            )
            for places in self._places.values()
            for place in places
        )

    # -- StageWorkerEvents ---------------------------------------------------------------------

    def worker_lost(self, worker: StageWorker) -> None:
        """Its instances run elsewhere, as soon as it is known what became of it."""
        self._scheduler.slot_lost(worker.slot, worker.loss)

    def worker_reaped(self, worker: StageWorker) -> None:
        """Free what it could write to, and start another in its place."""
        assert worker.loss is not None
        self._processes.discard(worker)
        self._scheduler.slot_reaped(worker.slot, worker.loss)
        for place in self._places.get(worker.spec.generation, ()):
            if place.worker is worker and not worker.stopping:
                place.worker = None
                _log.error("stage worker ended: %s", worker.loss.how, extra=_who(place, worker))
                ran = bool(worker.slot.busy)
                place.replacing = asyncio.create_task(self._replace(place, counts=not ran))

    # -- inside --------------------------------------------------------------------------------

    def _watched(self) -> Iterable[StageWorker]:
        return self._processes

    async def _fill(self, place: _Place) -> None:
        """Start a worker for a place. Raises LoadError."""
        spec = place.spec
        worker = StageWorker(place.name, spec, self._log_level, self._scheduler, self, self._nice)
        self._processes.add(worker)
        try:
            await worker.start()
        except BaseException:
            self._processes.discard(worker)
            raise
        place.worker = worker
        self._scheduler.add_slot(spec.generation, worker.slot)

    async def _replace(self, place: _Place, *, counts: bool) -> None:
        """Start a worker again, ever slower if it keeps ending.

        An end that ``counts`` not is a run's doing: the next run need not wait for it.
        """
        generation = place.spec.generation
        in_vain = 0
        while True:
            if counts:
                await self._pause(place)
            try:
                await self._fill(place)
            except LoadError as error:
                # Its text may name folders: it is for the log, not for those who wait.
                _log.error("%s", error, extra={"worker": place.name})
                counts = True
                in_vain += 1
                if in_vain >= _STARTS_IN_VAIN:
                    reason = "the servable's Python code cannot be imported any more"
                    self._scheduler.give_up(generation, reason)
                continue
            place.restarts += 1
            _log.info("stage worker is back", extra={"worker": place.name})
            return

    async def _pause(self, place: _Place) -> None:
        place.ends.append(time.monotonic())
        delay_s = restart_delay(list(place.ends), place.ends[-1])
        if delay_s:
            _log.warning("restarting in %.1f s", delay_s, extra={"worker": place.name})
        if delay_s >= _LONG_PAUSE_S:
            reason = "the servable's stage workers keep ending"
            self._scheduler.give_up(place.spec.generation, reason)
        await asyncio.sleep(delay_s)

    async def _end(self, places: list[_Place], deadline_s: float) -> None:
        tasks = [place.replacing for place in places if place.replacing is not None]
        for task in tasks:
            task.cancel()
        workers = [place.worker for place in places if place.worker is not None]
        for worker in workers:
            worker.stop()
        try:
            async with asyncio.timeout(deadline_s):
                for worker in workers:
                    await worker.gone.wait()
        except TimeoutError:
            for worker in workers:
                worker.kill()
            for worker in workers:
                await worker.gone.wait()
        await asyncio.gather(*tasks, return_exceptions=True)


def _who(place: _Place, worker: StageWorker) -> dict[str, object]:
    return {"worker": place.name, "pid": worker.pid, "servable": place.spec.servable}
