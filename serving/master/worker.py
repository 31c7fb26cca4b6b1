"""A worker process as the master sees it: started, talking, lost, reaped."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from serving.channel.async_link import AsyncLink
from serving.channel.messages import (
    PROTOCOL,
    Cancel,
    DeviceGone,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    Message,
    Ping,
    Progress,
    Stop,
    Unload,
    Unloaded,
)
from serving.devices import Device
from serving.errors import LoadError, Unavailable
from serving.master.child import Child
from serving.master.headstart import take
from serving.master.places import Place
from serving.master.watchdog import within
from serving.master.worker_process import WorkerProcess, launch, words_for
from serving.repository.interpreter import environment as environment_for
from serving.scheduling.slot import Slot, SlotEvents
from serving.scheduling.suspicion import Cause, Loss

_log = logging.getLogger("serving.master")

_PATH = re.compile(r"(?:/[\w.+-]+){2,}/?")


@dataclass(frozen=True)
class WorkerSpec:
    """How to start a worker, for a place. ``data_limit_mb`` 0 sets no limit.

    ``nice`` is added to the server's niceness. It looks out for runs for ``busy_poll_us`` before
    it falls asleep, where that pays.
    """

    name: str
    place: Place = field(default_factory=Place)
    slots: int = 1
    log_level: str = "info"
    data_limit_mb: int = 0
    expendable: bool = False
    nice: int = 0
    busy_poll_us: int = 0


class DeviceFailed(LoadError):
    """A load was cut short because the worker's device was lost: no fault of the model's."""


class WorkerEvents(Protocol):
    """Who is told of a worker's end."""

    def worker_lost(self, worker: Worker) -> None:
        """It is dead or dying: its runs will not be answered."""
        ...

    def worker_reaped(self, worker: Worker) -> None:
        """Its process is gone for certain: what it could write to may be used again."""
        ...


class UnreadyWorker:
    """A process that has been started and has not said hello."""

    def __init__(self, spec: WorkerSpec, slot_events: SlotEvents, events: WorkerEvents) -> None:
        self._spec = spec
        self._slot_events = slot_events
        self._events = events

    async def start(self, timeout_s: float) -> Worker:
        """Start the process and wait for its hello; raises Unavailable when it does not come."""
        worker = Worker(self._spec, self._slot_events, self._events)
        words, environment = self._words(), environment_for(self._spec.place.environment)
        try:
            begun = take(words, environment) or launch(words, self._spec.slots, environment)
        except OSError as error:
            problem = os.strerror(error.errno or 0)
            _log.error("%s cannot be run: %s", words[0], problem)  # a client is told of no path
            raise Unavailable(f"a worker could not be started: {problem}") from error
        worker.connect(begun)
        try:
            async with asyncio.timeout(timeout_s):
                hello = await worker.hello
        except TimeoutError:
            worker.kill()
            await worker.gone.wait()
            raise Unavailable(f"a worker said nothing for {timeout_s:g} s") from None
        except asyncio.CancelledError:
            worker.kill()
            await worker.gone.wait()  # else nobody would reap it
            raise
        # One that ended with its hello may have been reaped before anybody could replace it.
        if hello is None or worker.lost or hello.protocol != PROTOCOL:
            worker.kill()
            await worker.gone.wait()
            other = hello is not None and hello.protocol != PROTOCOL
            why = "it is of another build" if other else worker.last_words()
            raise Unavailable(f"a worker did not start: {why}")
        return worker

    def _words(self) -> list[str]:
        spec, place = self._spec, self._spec.place
        words = words_for(
            spec.name, spec.log_level, place.interpreter, place.device, place.backend,
            spec.busy_poll_us,
        )  # fmt: skip
        if spec.data_limit_mb:
            words += ["--data-limit-mb", str(spec.data_limit_mb)]
        if spec.expendable:
            words.append("--expendable")
        return words


class Worker:
    """A running worker. ``models`` are the ones it has loaded; ``gone`` is set once reaped.

    ``gears`` are the numbers of rows that some of its models take.

    ``loss`` says how it ended, as soon as that is known. ``awaited`` is set between a ping and the
    next that is heard of it.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        slot_events: SlotEvents,
        events: WorkerEvents,
    ) -> None:
        self.spec = spec
        self.models: set[int] = set()
        self.gears: dict[int, tuple[int, ...]] = {}
        self.slots: list[Slot] = []
        self.lost = False
        self.stopping = False
        self.awaited = False
        self.loss: Loss | None = None
        self._pings = 0
        self._child = Child(spec.name, self._exited, mute=True)
        self._slot_events = slot_events
        self._events = events
        self._loop = asyncio.get_running_loop()
        self.hello: asyncio.Future[Hello | None] = self._loop.create_future()
        self._loads: dict[int, asyncio.Future[Loaded]] = {}
        self._loaded: dict[int, Loaded] = {}
        self._phases: dict[int, Callable[[str], None]] = {}
        self._unloads: dict[int, asyncio.Future[None]] = {}

    @property
    def name(self) -> str:
        """Its name in logs."""
        return self.spec.name

    @property
    def device(self) -> Device:
        """What it computes on."""
        return self.spec.place.device

    @property
    def pid(self) -> int:
        """Its process."""
        return self._child.pid

    @property
    def gone(self) -> asyncio.Event:
        """Set once its process has been reaped."""
        return self._child.gone

    @property
    def returncode(self) -> int:
        """How its process has ended, as ``subprocess`` tells it."""
        return self._child.returncode

    def connect(self, begun: WorkerProcess) -> None:
        """Take over the process, and begin to listen to it."""
        self._child.adopt(begun.process, self.spec.nice)
        self._control = AsyncLink(begun.control, self._heard, self._closed)
        self._control.start()
        for end in begun.runs:
            slot = Slot(
                end, self._slot_events, self._closed, self._cancel, self.models, self.name,
                self.gears, self.device, self.spec.busy_poll_us if len(begun.runs) == 1 else 0,
            )  # fmt: skip
            slot.start()
            self.slots.append(slot)

    async def load(
        self, order: Load, timeout_s: float, on_phase: Callable[[str], None] | None = None
    ) -> Loaded:
        """Load a model. Raises LoadError: refused, crashed, or over its time (then killed)."""
        known = self._loaded.get(order.model)
        if known is not None:
            return known
        if self.lost:
            raise self._lost_while_loading()
        answer = self._loads.get(order.model)
        if answer is None:
            answer = self._loads[order.model] = self._loop.create_future()
            self._control.send(order)
        if on_phase is not None:
            self._phases[order.model] = on_phase
        try:
            loaded = await within(answer, timeout_s)
        except TimeoutError:
            self.kill(Loss(Cause.HUNG, f"loading took longer than {timeout_s:g} s"))
            raise LoadError(
                f"loading took longer than {timeout_s:g} s and was ended",
                fix="raise load_timeout_s in servable.toml or --load-timeout-s",
            ) from None
        finally:
            self._loads.pop(order.model, None)
            self._phases.pop(order.model, None)
        if loaded.gears is not None:
            self.gears[order.model] = loaded.gears
        self.models.add(order.model)
        self._loaded[order.model] = loaded
        return loaded

    async def unload(self, model: int) -> None:
        """Unload a model and wait until the worker has forgotten it."""
        self._forget(model)
        if self.lost:
            return
        done = self._unloads.get(model)
        if done is None:
            done = self._unloads[model] = self._loop.create_future()
            self._control.send(Unload(model))
        await asyncio.shield(done)
        self._forget(model)  # a load that was under way may have ended in between

    def _forget(self, model: int) -> None:
        self.models.discard(model)
        self.gears.pop(model, None)
        self._loaded.pop(model, None)

    def stop(self) -> None:
        """Ask it to leave; nothing is in flight."""
        self.stopping = True
        self._control.send(Stop())

    def kill(self, loss: Loss | None = None) -> None:
        """End it now, whatever it does; ``loss`` says why, by default for no fault of a run."""
        if self.loss is None and not self.lost:
            self.loss = loss or Loss(Cause.ENDED, "it was ended by the server")
        self._end()

    @property
    def loading(self) -> bool:
        """Whether it is at loading or unloading something, as far as it was asked to."""
        return bool(self._loads or self._unloads)

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._pings += 1
        self.awaited = True
        self._control.send(Ping(self._pings))

    def last_words(self) -> str:
        """Return the last line that it wrote to its standard error, for a reason."""
        return next(iter(self.last_lines(1)), self._child.loss.how)

    def ending(self) -> str:
        """Return how it ended, and the last line that it wrote outside of the log; once reaped."""
        assert self.loss is not None
        return "; it wrote last: ".join([self.loss.how, *self.last_lines(1)])

    def last_lines(self, most: int) -> list[str]:
        """Return the last lines that it wrote to its standard error outside of the log.

        Reasons are shown to clients, so the paths of this machine are left out.
        """
        return [_PATH.sub("…", line) for line in self._child.last_lines(most)]

    # -- what it says ---------------------------------------------------------------------------

    def _heard(self, message: Message) -> None:
        self.awaited = False
        if isinstance(message, Hello):
            if not self.hello.done():
                self.hello.set_result(message)
        elif isinstance(message, DeviceGone):
            self.kill(Loss(Cause.DEVICE, f"its device {self.device} was lost: {message.reason}"))
        elif isinstance(message, Progress):
            phase = self._phases.get(message.model)
            if phase is not None:
                phase(message.phase)
        elif isinstance(message, (Loaded, LoadFailed)):
            answer = self._loads.get(message.model)
            if answer is None or answer.done():
                return
            if isinstance(message, Loaded):
                answer.set_result(message)
            else:
                answer.set_exception(LoadError(message.message))
        elif isinstance(message, Unloaded):
            done = self._unloads.pop(message.model, None)
            if done is not None and not done.done():
                done.set_result(None)

    def _cancel(self, run: int) -> None:
        self._control.send(Cancel(run))

    # -- its end --------------------------------------------------------------------------------

    def _closed(self) -> None:
        """A link ended before the process did: it is dying, or must."""
        self._control.hear_out()
        if not self.stopping:
            self._end()

    def _end(self) -> None:
        self._child.kill()
        self._lose()

    def _exited(self) -> None:
        self._control.hear_out()
        if self.loss is None:
            seen = self._child.loss
            self.loss = Loss(Cause.ENDED, seen.how) if self.stopping else seen
        self._lose()
        self._events.worker_reaped(self)

    def _lose(self) -> None:
        if self.lost:
            return
        self.lost = True
        self._control.close()
        if not self.hello.done():
            self.hello.set_result(None)
        for answer in self._loads.values():
            if not answer.done():
                self._loop.create_task(self._fail_load(answer))
        for done in self._unloads.values():
            if not done.done():
                done.set_result(None)
        self._events.worker_lost(self)
        for slot in self.slots:
            slot.close()

    async def _fail_load(self, answer: asyncio.Future[Loaded]) -> None:
        """Wait for the exit status: it is the better half of the reason."""
        await self.gone.wait()
        if not answer.done():
            answer.set_exception(self._lost_while_loading())

    def _lost_while_loading(self) -> LoadError:
        if self.loss is not None and self.loss.cause is Cause.DEVICE:
            return DeviceFailed(f"while loading, {self.loss.how}")
        return LoadError(f"the worker died while loading: {self.last_words()}")
