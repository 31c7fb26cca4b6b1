"""A stage worker as the master sees it: started, importing, running functions, lost, reaped."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serving.channel.async_link import AsyncLink
from serving.channel.link import pair
from serving.channel.messages import (
    PROTOCOL,
    Cancel,
    Hello,
    LoadFailed,
    Message,
    Ping,
    Registered,
    Stop,
)
from serving.errors import LoadError
from serving.master.child import Child
from serving.repository.interpreter import command
from serving.scheduling.stages.slot import StageSlot, StageSlotEvents
from serving.scheduling.suspicion import Cause, Loss

_log = logging.getLogger("serving.stages")


def _always() -> bool:
    return True


@dataclass(frozen=True)
class StageSpec:
    """The stage workers of one generation.

    ``folder`` holds the servable's ``servable_config.py``; ``digest`` is that of the Definition
    that it must register. ``unchanged`` is asked once a worker has imported it: False says that
    the files are no longer those of this generation, and the worker is not used. ``device_id`` is
    what user code sees as ``SERVING_DEVICE_ID``.
    """

    generation: int
    servable: str
    folder: Path
    digest: str
    workers: int = 1
    device_id: int = 0
    interpreter: str = sys.executable
    load_timeout_s: float = 60.0
    unchanged: Callable[[], bool] = _always


class StageWorkerEvents(Protocol):
    """Who is told of a stage worker's end."""

    def worker_lost(self, worker: StageWorker) -> None:
        """It is dead or dying: its run will not be answered."""
        ...

    def worker_reaped(self, worker: StageWorker) -> None:
        """Its process is gone for certain."""
        ...


class StageWorker:
    """Owns the process and its links. Event loop only.

    Made where there are descriptors for its links; else LoadError is raised. ``slot`` takes runs
    once ``start`` has returned. ``loss`` says how it ended, as soon as that is
    known. ``awaited`` is set between a ping and the next that is heard of it. ``nice`` is added to
    the niceness of its process.
    """

    def __init__(
        self,
        name: str,
        spec: StageSpec,
        log_level: str,
        slot_events: StageSlotEvents,
        events: StageWorkerEvents,
        nice: int = 0,
    ) -> None:
        self.name = name
        self.spec = spec
        self.lost = False
        self.loss: Loss | None = None
        self.stopping = False
        self.awaited = False
        self._log_level = log_level
        self._nice = nice
        self._events = events
        self._child = Child(name, self._exited)
        self._pings = 0
        self._registered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        try:
            control, self._theirs = pair()
            runs, self._their_runs = pair()
        except OSError as error:
            raise LoadError(f"a stage worker could not be started: {_problem(error)}") from None
        self._control = AsyncLink(control, self._heard, self._closed)
        self.slot = StageSlot(runs, slot_events, self, self._closed)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._child.pid

    @property
    def gone(self) -> asyncio.Event:
        """Set once its process has been reaped."""
        return self._child.gone

    @property
    def slots(self) -> list[StageSlot]:
        """Where it runs."""
        return [self.slot]

    @property
    def loading(self) -> bool:
        """Whether user code has the process, which may keep it from answering."""
        return not self._registered.done() or bool(self.slot.busy)

    async def start(self) -> None:
        """Start the process and wait until it has imported the servable. Raises LoadError.

        After an error the process is gone.
        """
        try:
            self._launch()
            async with asyncio.timeout(self.spec.load_timeout_s):
                digest = await self._registered
            self._check(digest)
            if self.lost:
                raise LoadError(f"the stage worker died: {self._child.ending()}")
        except TimeoutError:
            await self._end(f"took longer than {self.spec.load_timeout_s:g} s")
            raise LoadError(
                f"importing servable_config.py took longer than {self.spec.load_timeout_s:g} s "
                "and was ended",
                fix="raise load_timeout_s in servable.toml or --load-timeout-s",
            ) from None
        except BaseException:
            await self._end("it could not be used")
            raise

    def stop(self) -> None:
        """Ask it to leave; nothing is in flight."""
        self.stopping = True
        self.loss = self.loss or Loss(Cause.ENDED, "it was stopped")
        self._control.send(Stop())

    def kill(self, loss: Loss | None = None) -> None:
        """End it now, whatever it does; ``loss`` says why, by default for no fault of a run."""
        if self.loss is None:
            self.loss = loss or Loss(Cause.ENDED, "it was ended by the server")
        self._child.kill()
        self._lose()

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._pings += 1
        self.awaited = True
        self._control.send(Ping(self._pings))

    # -- StageProcess: what its slot wants of it -----------------------------------------------

    def heard_of(self) -> None:
        """It gave a sign of life."""
        self.awaited = False

    def cancel(self, run: int) -> None:
        """Ask it not to begin a run."""
        self._control.send(Cancel(run))

    def broken(self, what: str) -> None:
        """It does what no healthy worker does: nobody can tell what else is damaged."""
        _log.error("a stage worker is broken: %s; it is ended", what, extra={"worker": self.name})
        self.kill(Loss(Cause.CRASHED, "gave an answer that cannot be read"))

    # -- inside --------------------------------------------------------------------------------

    def _launch(self) -> None:
        ends = (self._theirs, self._their_runs)
        environment = {
            **os.environ,
            "PYTHONSAFEPATH": "1",
            "SERVING_DEVICE_ID": str(self.spec.device_id),
        }
        try:
            descriptors = [end.fileno() for end in ends]
            self._child.start(self._command(), environment, descriptors, self._nice)
        except OSError as error:
            raise LoadError(
                f"a stage worker could not be started with {self.spec.interpreter!r}: "
                f"{_problem(error)}"
            ) from None
        finally:
            for end in ends:
                end.close()
        self._control.start()
        self.slot.start()

    def _command(self) -> list[str]:
        spec = self.spec
        return [
            *command(spec.interpreter, "serving.worker.stage"),
            "--master", str(os.getpid()),
            "--name", self.name,
            "--log-level", self._log_level,
            "--control-fd", str(self._theirs.fileno()),
            "--run-fd", str(self._their_runs.fileno()),
            "--folder", str(spec.folder),
            "--servable", spec.servable,
        ]  # fmt: skip

    def _check(self, digest: str) -> None:
        if not self.spec.unchanged():
            raise LoadError(f"the Python files of {self.spec.servable!r} have been changed since")
        if digest != self.spec.digest:
            raise LoadError(
                "servable_config.py registered something else than when it was looked at",
                fix="let what it registers not depend on the time, chance or the environment",
            )

    async def _end(self, why: str) -> None:
        """Kill what has been started, and wait until it is gone."""
        self.kill(Loss(Cause.ENDED, why))
        if self.pid:
            await self.gone.wait()
        if self._registered.done() and not self._registered.cancelled():
            self._registered.exception()  # has been seen, if there is one

    def _heard(self, message: Message) -> None:
        self.awaited = False
        if isinstance(message, Hello) and message.protocol != PROTOCOL:
            self._refuse(f"the stage worker of {self.spec.interpreter!r} is of another build")
        elif isinstance(message, LoadFailed):
            self._refuse(message.message)
        elif isinstance(message, Registered) and not self._registered.done():
            self._registered.set_result(message.digest)

    def _refuse(self, reason: str) -> None:
        if not self._registered.done():
            self._registered.set_exception(LoadError(reason))

    def _closed(self) -> None:
        """A link ended before the process did: it is dying, or must."""
        self._control.hear_out()
        if not self.stopping:
            self._child.kill()
            self._lose()

    def _exited(self) -> None:
        self._control.hear_out()
        if self.loss is None:
            self.loss = self._child.loss
        self._refuse(
            f"the stage worker died while importing servable_config.py: {self._child.ending()}"
        )
        self._lose()
        self._events.worker_reaped(self)

    def _lose(self) -> None:
        if self.lost:
            return
        self.lost = True
        self._control.close()
        self._events.worker_lost(self)
        self.slot.close()


def _problem(error: OSError) -> str:
    return os.strerror(error.errno or 0)
