"""Tries models out in workers that serve nobody.

A process and an engine take 0.2 s of CPU to start, a small model 3 ms to try: a folder of 1,500
models took minutes. So a trial worker that came through clean takes the next model, but only its
*yes* counts then: what failed in a worker that had another model before is tried in a fresh one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import time

from serving.channel.messages import Load, Loaded
from serving.errors import LoadError, Unavailable
from serving.master.memory import available_mb, resident_mb
from serving.master.places import Place
from serving.master.worker import DeviceFailed, UnreadyWorker, Worker, WorkerEvents, WorkerSpec
from serving.scheduling.slot import SlotEvents

_log = logging.getLogger("serving.supervisor")

CPU = Place()

_HELLO_TIMEOUT_S = 60.0
_PAUSES_S = (0.0, 0.5)
"""After the first and the second start in vain; after the third it is given up."""
_UNLOAD_TIMEOUT_S = 2.0
_IDLE_S = 1.0
"""How long a clean worker waits for another model."""
_SMALL_MB = 256
"""A worker that has come to hold more memory than this ends with its model."""


class Trials:
    """Owns the trial workers. Event loop only."""

    def __init__(
        self, slot_events: SlotEvents, events: WorkerEvents, log_level: str, nice: int = 0
    ) -> None:
        self._slot_events = slot_events
        self._events = events
        self._log_level = log_level
        self._nice = nice
        self._count = 0
        self._idle: dict[Worker, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self.workers: set[Worker] = set()

    async def try_out(self, order: Load, timeout_s: float, place: Place = CPU) -> Loaded:
        """Load, warm and prove a model on a place's device; see ``lifecycle.Fleet``."""
        used = self._take(place)
        if used is None:
            return await self._load(await self._start(place), order, timeout_s)
        began = time.monotonic()
        try:
            return await self._load(used, order, timeout_s)
        except LoadError:
            if time.monotonic() - began >= timeout_s:
                raise  # to wait as long once more would tell nothing else
        return await self._load(await self._start(place), order, timeout_s)

    def _take(self, place: Place) -> Worker | None:
        """Return an idle worker of such a place, its memory limited to what is free now."""
        for worker in [w for w in reversed(self._idle) if w.device.kind == place.device.kind]:
            if worker.device != place.device and place.device.kind != "cpu":
                continue
            self._idle.pop(worker).cancel()
            if not worker.lost:
                if worker.spec.data_limit_mb:
                    _limit(worker.pid, _limit_mb())
                return worker
            self.workers.discard(worker)
        return None

    async def _start(self, place: Place) -> Worker:
        self._count += 1
        spec = trial_spec(
            f"trial-{self._count}", self._log_level, slots=0, place=place, nice=self._nice
        )
        try:
            worker = await started(spec, self._slot_events, self._events)
        except Unavailable as error:
            failed = LoadError if place.device.kind == "cpu" else DeviceFailed
            raise failed(str(error)) from None
        self.workers.add(worker)
        return worker

    async def _load(self, worker: Worker, order: Load, timeout_s: float) -> Loaded:
        """Try a model out; the worker waits for another one if it is as good as new, or ends."""
        clean = False
        try:
            loaded = await worker.load(order, timeout_s)
            clean = await _cleared(worker, order.model)
        finally:
            if not clean:
                await self._end(worker)
        loop = asyncio.get_running_loop()
        self._idle[worker] = loop.call_later(_IDLE_S, self._retire, worker)
        return loaded

    def _retire(self, worker: Worker) -> None:
        del self._idle[worker]
        task = asyncio.create_task(self._end(worker))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, worker: Worker) -> None:
        worker.stopping = True
        worker.kill()
        await worker.gone.wait()
        self.workers.discard(worker)


def trial_spec(
    name: str, log_level: str, *, slots: int, place: Place = CPU, nice: int = 0
) -> WorkerSpec:
    """Return how to start a worker that serves nobody and must harm nobody.

    A device's driver maps far more than it uses, so that a limit on data would say nothing.
    """
    return WorkerSpec(
        name=name,
        place=place,
        slots=slots,
        log_level=log_level,
        data_limit_mb=_limit_mb() if place.device.kind == "cpu" else 0,
        expendable=True,
        nice=nice,
    )


async def started(spec: WorkerSpec, slot_events: SlotEvents, events: WorkerEvents) -> Worker:
    """Start a worker that serves nobody; raises Unavailable.

    One that ends before its hello says nothing about what was to be tried in it: where memory is
    short it is the first that the system ends. So another is started; not on a device, where that
    takes long and there may be a next one.
    """
    for pause_s in _PAUSES_S if spec.place.device.kind == "cpu" else ():
        try:
            return await UnreadyWorker(spec, slot_events, events).start(_HELLO_TIMEOUT_S)
        except Unavailable as error:
            _log.warning("%s; another is started", error, extra={"worker": spec.name})
            await asyncio.sleep(pause_s)
    return await UnreadyWorker(spec, slot_events, events).start(_HELLO_TIMEOUT_S)


async def _cleared(worker: Worker, model: int) -> bool:
    """Unload the model; False when the worker is not fit for another one."""
    if worker.lost or resident_mb(worker.pid) > _SMALL_MB:
        return False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_UNLOAD_TIMEOUT_S):
            await worker.unload(model)
            return not worker.lost
    return False


def _limit_mb() -> int:
    """Return four fifths of what is free: a model that wants more would push others out."""
    return max(512, available_mb() * 4 // 5)


def _limit(pid: int, data_mb: int) -> None:
    """Bound a process's memory anew, within the limit it was started under."""
    with contextlib.suppress(ProcessLookupError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
        resource.prlimit(pid, resource.RLIMIT_DATA, (min(data_mb << 20, hard), hard))
