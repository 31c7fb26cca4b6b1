"""The serving workers: who is in which place, what they are sent, and what memory they hold."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Callable, Sequence

from serving.channel.messages import Load, Loaded
from serving.devices import Where
from serving.errors import LoadError
from serving.master.memory import own_mb
from serving.master.places import Place
from serving.master.recycling import Growth
from serving.master.usage import usage_of
from serving.master.worker import UnreadyWorker, Worker, WorkerEvents, WorkerSpec
from serving.scheduling.scheduler import Scheduler
from serving.statistics import WorkerStatistics

_HELLO_TIMEOUT_S = 60.0


class Crew:
    """Owns the serving workers, each in its place. Event loop only.

    ``processes`` are all that run, in a place or not yet or no more; ``down`` says by name why a
    place cannot be filled. ``events`` hears of their ends. ``nice`` is added to their niceness;
    for ``busy_poll_us`` see ``WorkerSpec``.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        places: Sequence[Place],
        events: WorkerEvents,
        *,
        log_level: str,
        nice: int,
        busy_poll_us: int = 0,
    ) -> None:
        self.places = {place.name: place for place in places}
        self.processes: set[Worker] = set()
        self.down: dict[str, str] = {}
        self._scheduler = scheduler
        self._events = events
        self._log_level = log_level
        self._nice = nice
        self._busy_poll_us = busy_poll_us
        self._in_place: dict[str, Worker] = {}
        self._growth: dict[Worker, Growth] = {}
        self._restarts: collections.Counter[str] = collections.Counter()
        self._sent: collections.Counter[str] = collections.Counter()
        self._sent_rows: collections.Counter[str] = collections.Counter()

    # -- who is where --------------------------------------------------------------------------

    @property
    def workers(self) -> list[Worker]:
        """Those in their places that are up."""
        return [worker for worker in self._in_place.values() if not worker.lost]

    def at(self, where: Where) -> list[Worker]:
        """Return those that are up on some devices."""
        return [worker for worker in self.workers if where.holds(worker.device)]

    def holds(self, worker: Worker) -> bool:
        """Return whether a worker, up or not, is the latest in its place."""
        return self._in_place.get(worker.name) is worker

    def holders(self, model: int) -> tuple[str, ...]:
        """Return those that are up and have a model loaded, by name, in the order of places."""
        up = {worker.name for worker in self.workers if model in worker.models}
        return tuple(name for name in self.places if name in up)

    def statistics(self) -> tuple[WorkerStatistics, ...]:
        """Return how each place stands: who is in it now, and how often that changed."""
        up = {worker.name: worker for worker in self.workers}
        return tuple(self._standing(place, up.get(name)) for name, place in self.places.items())

    async def someone_up(self, where: Where, timeout_s: float) -> None:
        """Wait for the first workers of a kind to come up, and while all are being replaced.

        Raises LoadError when none comes; places that are down are not waited for.
        """
        limit = time.monotonic() + timeout_s
        names = [p.name for p in self.places.values() if where.holds(p.device)]
        while True:
            down = [self.down[name] for name in names if name in self.down]
            settled = all(name in self._in_place or name in self.down for name in names)
            if settled and self.at(where):
                return
            if len(down) == len(names) and where.kind != "cpu":
                said = down[0] if down else "the server has no such device"
                raise LoadError(f"no {where.kind} worker is up to load it: {said}")
            if time.monotonic() > limit:
                raise LoadError(f"no worker came up within {timeout_s:g} s to load it")
            await asyncio.sleep(0.02)

    # -- coming and going ----------------------------------------------------------------------

    async def spawn(self, place: Place) -> Worker:
        """Start a process that is sent nothing yet; raises Unavailable."""
        spec = WorkerSpec(
            place.name, place, place.slots, self._log_level, nice=self._nice,
            busy_poll_us=self._busy_poll_us,
        )  # fmt: skip
        worker = await UnreadyWorker(spec, self._scheduler, self._events).start(_HELLO_TIMEOUT_S)
        self.processes.add(worker)
        self._growth[worker] = Growth(own_mb(worker.pid))
        return worker

    async def start(self, place: Place) -> Worker:
        """Start a process and use it; raises Unavailable."""
        worker = await self.spawn(place)
        self.put(worker)
        return worker

    def put(self, worker: Worker) -> None:
        """Give a worker its place, and use it."""
        self._in_place[worker.name] = worker
        self.down.pop(worker.name, None)
        for slot in worker.slots:
            self._scheduler.add_slot(slot)

    def count_restart(self, worker: Worker) -> None:
        """Count that a worker has come in another's stead."""
        self._restarts[worker.name] += 1

    def gone(self, worker: Worker) -> None:
        """Its process has been reaped: keep what it was sent, and forget the rest."""
        for slot in worker.slots:
            self._sent[worker.name] += slot.runs
            self._sent_rows[worker.name] += slot.rows
        self.processes.discard(worker)
        self._growth.pop(worker, None)

    # -- loading, and the memory that takes ----------------------------------------------------

    async def load_into(
        self,
        worker: Worker,
        order: Load,
        timeout_s: float,
        on_phase: Callable[[str], None] | None = None,
    ) -> Loaded:
        """Load a model into a worker; see ``Worker.load``."""
        quiet, before_mb = not worker.loading, own_mb(worker.pid)
        loaded = await worker.load(order, timeout_s, on_phase)
        if quiet and not worker.loading and worker in self._growth:
            self._growth[worker].loaded(order.model, before_mb, own_mb(worker.pid))
        return loaded

    async def unload_from(self, worker: Worker, model: int) -> str:
        """Unload a model; returns why the worker should be replaced afterwards, if it should."""
        quiet, before_mb = not worker.loading, own_mb(worker.pid)
        await worker.unload(model)
        growth = self._growth.get(worker)
        if growth is None or worker.lost:
            return ""
        if quiet and not worker.loading:
            growth.unloaded(model, before_mb, own_mb(worker.pid))
        else:
            growth.forget(model)
        return f"it kept {growth.kept_mb} MiB of what it had unloaded" if growth.leaked else ""

    def filled(self, worker: Worker) -> None:
        """It has all that it should have: what it holds now is what a fresh worker holds."""
        if worker in self._growth:
            self._growth[worker].fresh_mb = own_mb(worker.pid)

    def fresh_mb(self, worker: Worker) -> int:
        """Return what a worker that runs held when it was fresh."""
        return self._growth[worker].fresh_mb

    # -- inside --------------------------------------------------------------------------------

    def _standing(self, place: Place, worker: Worker | None) -> WorkerStatistics:
        name, slots = place.name, [] if worker is None else worker.slots
        return WorkerStatistics(
            name,
            self._restarts[name],
            None if worker is None else usage_of(worker.pid),
            str(place.device),
            place.backend,
            self.down.get(name, ""),
            self._sent[name] + sum(slot.runs for slot in slots),
            self._sent_rows[name] + sum(slot.rows for slot in slots),
        )
