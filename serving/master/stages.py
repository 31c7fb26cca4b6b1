"""The Python side of versions, as the loader asks for it: a room a function, workers for all."""

from __future__ import annotations

import sys

from serving.errors import LoadError
from serving.lifecycle.fleet import StageOrder
from serving.master.stage_fleet import StageFleet, StageSpec
from serving.repository.settings import ServableSettings
from serving.scheduling.stages.scheduler import StageScheduler
from serving.scheduling.suspicion import RunTerms


class Stages:
    """Implements ``lifecycle.StageFleet``. Event loop only."""

    def __init__(self, scheduler: StageScheduler, fleet: StageFleet, run_timeout_s: float) -> None:
        self._scheduler = scheduler
        self._fleet = fleet
        self._run_timeout_s = run_timeout_s

    async def start(self, order: StageOrder) -> None:
        """Make room and start the workers; see ``lifecycle.StageFleet``."""
        settings = order.settings
        stages = settings.stages
        self._scheduler.open(
            order.generation,
            order.servable,
            order.definition.stages,
            settings.max_queue_size,
            RunTerms(self._limit_s(settings), settings.idempotent),
        )
        try:
            await self._fleet.start(
                StageSpec(
                    order.generation,
                    order.servable,
                    order.folder,
                    order.definition.digest,
                    workers=stages.workers,
                    device_id=stages.device_id,
                    interpreter=stages.python or sys.executable,
                    load_timeout_s=order.timeout_s,
                    unchanged=order.intact,
                )
            )
        except LoadError:
            await self._scheduler.close(order.generation, 0.0)
            raise

    async def stop(self, generation: int) -> None:
        """Close the rooms and end the workers; see ``lifecycle.StageFleet``."""
        await self._scheduler.close(generation, 0.0)
        await self._fleet.stop(generation)

    def _limit_s(self, settings: ServableSettings) -> float:
        """Return how long a function may run: what is said of it, of its servable, of all."""
        for limit_s in (settings.stages.run_timeout_s, settings.run_timeout_s):
            if limit_s is not None:
                return limit_s
        return self._run_timeout_s
