"""What serves, without a door: workers, scheduling, the life of servables, the data plane.

``Server`` puts front ends before it in a process of its own; ``serving.api`` does so in a thread
of somebody else's process. Both start the parts in one order and stop them in the reverse.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from serving.channel.arena import Arena
from serving.config import ServerSettings
from serving.errors import ServingError, Unavailable
from serving.lifecycle.control import Control
from serving.lifecycle.gate import open_gate
from serving.lifecycle.loader import Loader, LoadLimits
from serving.lifecycle.manager import Manager
from serving.lifecycle.proofs import Proofs, default_cache_dir
from serving.lifecycle.watcher import Look, Watcher
from serving.master.cores import busy_poll_us, usable_cores
from serving.master.places import Place, kinds_of, places_for
from serving.master.plane import MasterPlane
from serving.master.stage_fleet import StageFleet
from serving.master.stages import Stages
from serving.master.supervisor import Supervisor
from serving.repository.conversions import Conversions
from serving.repository.engines import Engines
from serving.repository.observation import observe
from serving.repository.priority import of_background
from serving.scheduling.crowd import Crowd, CrowdLimits
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.stages.scheduler import StageScheduler
from serving.statistics import WorkerStatistics

if TYPE_CHECKING:
    from serving.master.gateways import Gateways

_log = logging.getLogger("serving.master")

_WORKERS_LEAVE_S = 5.0


class Door(Protocol):
    """A front end, as it is stopped."""

    async def drain(self, deadline_s: float) -> None:
        """Take no more requests, and let those that it has be answered until the deadline."""
        ...

    async def stop(self) -> None:
        """Close at once what is still open."""
        ...


class Core:
    """Owns every part of the master but its front ends. Constructing it does nothing yet.

    Event loop only. ``plane`` is for the front ends; ``watcher`` sees what there is to serve: all
    of the model directory, or what ``look`` finds. ``places`` are those of the workers, by default
    the CPU's.
    """

    def __init__(
        self,
        settings: ServerSettings,
        look: Look | None = None,
        places: Sequence[Place] | None = None,
    ) -> None:
        if places is None:
            places = places_for(settings.workers, (), settings.backends)
        self._arena = Arena(settings.memory_mb << 20, self._segment_closed)
        self._scheduler = Scheduler(self._arena)
        self._supervisor = Supervisor(
            self._scheduler,
            places=places,
            log_level=settings.log_level,
            silence_s=settings.heartbeat_timeout_s,
            memory_limit_mb=settings.worker_memory_limit_mb,
            nice=settings.worker_nice,
            busy_poll_us=busy_poll_us(settings.busy_poll_us),
        )
        self._stage_scheduler = StageScheduler(self._arena)
        self._stage_fleet = StageFleet(
            self._stage_scheduler,
            log_level=settings.log_level,
            silence_s=settings.heartbeat_timeout_s,
            nice=settings.worker_nice,
        )
        self._crowd = Crowd(CrowdLimits(settings.max_queue_size, settings.max_queue_mb << 20))
        self.gate = open_gate(settings)
        self._apart: Gateways | None = None
        self.plane = MasterPlane(
            self._scheduler,
            self._arena,
            self._processes,
            self.gate,
            strict_readiness=settings.strict_readiness,
            crowd=self._crowd,
            run_timeout_s=settings.run_timeout_s,
            stages=self._stage_scheduler,
        )
        self._conversions = Conversions(
            settings.cache_dir or default_cache_dir(), settings.cache_mb
        )
        background = of_background(settings.worker_nice)
        self._engines = Engines(
            settings.cache_dir or default_cache_dir(),
            settings.cache_mb,
            settings.backends,
            background,
        )
        loader = Loader(
            self._supervisor,
            Stages(self._stage_scheduler, self._stage_fleet, settings.run_timeout_s),
            Proofs(settings.cache_dir or default_cache_dir()),
            self._conversions,
            LoadLimits(
                max(1, usable_cores() // settings.workers), settings.load_timeout_s, background
            ),
            self._engines,
            kinds_of(places),
        )
        self.manager = Manager(loader, self.plane)
        self._control = Control(settings.model_dir, self.manager)
        self.watcher = Watcher(look or partial(observe, settings.model_dir), self.manager)
        self.plane.attach(self.manager, self._control)
        self._supervisor.on_condemned = self.manager.condemn

    async def start(self) -> None:
        """Start the workers; raises ServingError when one cannot be started."""
        try:
            await self._supervisor.start()
        except Unavailable as error:
            raise ServingError(str(error), code="start_failed") from error

    def forget_files(self) -> None:
        """Clients have taken files back that they shared: workers let go of them."""
        self._scheduler.forget_files()

    async def stop(self, doors: Sequence[Door], drain_s: float) -> None:
        """Not ready → stop accepting → finish what was accepted → workers → memory."""
        self.plane.draining = True
        await asyncio.gather(*[door.drain(drain_s) for door in doors])
        await self.watcher.stop()
        await self._control.stop()
        await self.manager.stop()
        await asyncio.gather(*[door.stop() for door in doors])
        for tally in self.plane.tallies():
            _log.info("%s", tally)
        await self._stage_fleet.stop_all(_WORKERS_LEAVE_S)
        await self._supervisor.stop(_WORKERS_LEAVE_S)
        self._scheduler.close()
        self._arena.close()
        self._conversions.close()
        self._engines.close()

    @property
    def arena(self) -> Arena:
        """What holds rows and answers."""
        return self._arena

    def serve_by(self, gateways: Gateways) -> None:
        """Have front ends in processes of their own counted, and told of segments that close."""
        self._apart = gateways

    def bound_waiting(self, requests: int) -> None:
        """Let at most so many requests wait, all servables together, from now on."""
        self._crowd.limits = replace(self._crowd.limits, requests=requests)

    def kill(self) -> None:
        """End every worker at once."""
        self._stage_fleet.kill()
        self._supervisor.kill()

    def _processes(self) -> tuple[WorkerStatistics, ...]:
        fronts = () if self._apart is None else self._apart.statistics()
        return (*self._supervisor.statistics(), *self._stage_fleet.statistics(), *fronts)

    def _segment_closed(self, segment_id: int) -> None:
        if self._apart is not None:
            self._apart.forget_segment(segment_id)
        self._scheduler.forget_segment(segment_id)
        self._stage_scheduler.forget_segment(segment_id)
