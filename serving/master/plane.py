"""The data plane of this process: front ends on one side, scheduler and versions on the other."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from serving.channel.arena import Arena
from serving.dataplane import Claim, RowsClaim
from serving.errors import ServingError, Unavailable
from serving.lifecycle.control import Control
from serving.lifecycle.gate import Gate
from serving.lifecycle.lookup import of_model
from serving.lifecycle.manager import Manager
from serving.lifecycle.state import State
from serving.lifecycle.version import Version
from serving.master.listing import row_of, tally_of
from serving.master.opener import Opener
from serving.master.routes import Door, Routes
from serving.master.usage import usage_of
from serving.repository.labels import Labels
from serving.request import Description, InferRequest, RowsListener, VersionName
from serving.scheduling.crowd import Crowd, CrowdLimits
from serving.scheduling.line import Line
from serving.scheduling.pipeline.call import MethodCall
from serving.scheduling.pipeline.model_calls import ModelCalls
from serving.scheduling.pipeline.pipeline import Pipeline
from serving.scheduling.pipeline.together import TogetherClaim
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.sheaf import SheafClaim
from serving.scheduling.stages.scheduler import StageScheduler
from serving.scheduling.ticket import Ticket
from serving.statistics import (
    ErrorAnswers,
    ServerStatistics,
    TensorMemory,
    VersionStatistics,
    WorkerStatistics,
)

_STRAGGLERS_S = 0.1
"""How long a version that is being replaced still takes requests that were decoded for it."""


class MasterPlane:
    """Implements ``DataPlane`` and the manager's ``Publisher``. Event loop only.

    ``_routes`` is what requests are routed by; ``_open`` and ``_pipelines`` hold what is open by
    generation, those too that only answer what was meant for them. ``on_route`` is told of each
    servable whose routes or labels have changed.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        arena: Arena,
        workers: Callable[[], tuple[WorkerStatistics, ...]],
        gate: Gate,
        *,
        strict_readiness: bool,
        crowd: Crowd | None = None,
        run_timeout_s: float = 0.0,
        stages: StageScheduler | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._arena = arena
        self._workers = workers
        self._errors: Counter[tuple[str, str]] = Counter()
        self._gate = gate
        self._strict = strict_readiness
        crowd = Crowd(CrowdLimits()) if crowd is None else crowd
        stages = StageScheduler(arena) if stages is None else stages
        self._opener = Opener(scheduler, stages, arena, crowd, run_timeout_s)
        self._stages = stages
        self._manager: Manager | None = None
        self._control: Control | None = None
        self._routes = Routes()
        self._open: dict[int, Line] = {}
        self._pipelines: dict[int, Pipeline] = {}
        self._was_ready: set[str] = set()
        self.draining = False
        self.on_route: Callable[[str], None] = lambda _servable: None
        stages.calls = ModelCalls(scheduler, self._pipelines)

    def attach(self, manager: Manager, control: Control) -> None:
        """Learn who knows the versions; manager and plane know each other."""
        self._manager = manager
        self._control = control
        self._routes.attach(manager)

    # -- Publisher -----------------------------------------------------------------------------

    def publish(self, version: Version) -> None:
        """Open a version's waiting rooms and route its number there, in one step."""
        if version.definition is not None:
            pipeline = self._opener.pipeline(version, version.definition)
            self._pipelines[version.generation] = pipeline
            self._routes.add(version, pipeline)
        else:
            line = self._opener.line(version)
            self._open[version.generation] = line
            self._routes.add(version, line)
        self._was_ready.add(version.servable)
        self.on_route(version.servable)

    def label(self, servable: str, labels: Labels) -> None:
        """Let versions be asked for by these names; see ``Publisher``."""
        routes = self._routes
        before = routes.labels(servable), routes.labels_wanted(servable)
        routes.label(servable, labels)
        if before != (routes.labels(servable), routes.labels_wanted(servable)):
            self.on_route(servable)

    async def retire(self, version: Version, deadline_s: float) -> None:
        """Route nothing more to a version, wait for what it has, and give its memory back."""
        generation = version.generation
        door = self._pipelines.get(generation) or self._open[generation]
        if self._routes.remove(version, door) and version.state is not State.FAILED:
            # Taken down because it was asked for, not lost: the server stays ready.
            self._was_ready.discard(version.servable)
        self.on_route(version.servable)
        # Requests that were being decoded for it when the routes changed still come.
        await asyncio.sleep(_STRAGGLERS_S)
        try:
            await self._opener.close(door, deadline_s)
        finally:
            self._pipelines.pop(generation, None)
            self._open.pop(generation, None)
        self._arena.trim()

    # -- DataPlane -----------------------------------------------------------------------------

    def claim(self, request: InferRequest) -> Claim:
        """Check a request and take a place for it; see ``DataPlane``."""
        if self.draining:
            raise Unavailable(
                "the server is going down and takes no more requests",
                code="draining",
                retry_after_s=5.0,
            )
        line = self._open.get(request.generation)
        if line is None:
            if request.elsewhere is not None:  # what takes its place may need it otherwise
                raise Unavailable("the version was replaced", code="unloaded", retry_after_s=0.0)
            door: Door | None = self._pipelines.get(request.generation)
            if door is None:
                door = self._routes.find(request.servable, request.version)
            if isinstance(door, Pipeline):
                return door.claim(request)
            line = door
        try:
            return self._scheduler.claim(line, request)
        except ServingError as error:
            line.statistics.refuse(error)
            raise

    def commit(self, claim: Claim) -> None:
        """Let a claimed request run."""
        if isinstance(claim, Ticket):
            self._scheduler.commit(claim)
        else:
            cast(MethodCall, claim).start()

    def abandon(self, claim: Claim) -> None:
        """Withdraw a claimed request."""
        if isinstance(claim, Ticket):
            self._scheduler.abandon(claim)
        else:
            cast(MethodCall, claim).abandon()

    def take_rows(
        self, request: InferRequest, unit: int, listener: RowsListener
    ) -> RowsClaim | None:
        """Take a request whose rows are those of several callers; see ``TakesRows``."""
        if self.draining:
            return None
        line = self._open.get(request.generation)
        if line is not None:
            return self._scheduler.take_rows(line, request, unit, listener)
        pipeline = self._pipelines.get(request.generation)
        return None if pipeline is None else pipeline.take_rows(request, unit, listener)

    def abandon_row(self, claim: RowsClaim, caller: int) -> None:
        """Withdraw one of those callers."""
        if isinstance(claim, SheafClaim):
            self._scheduler.abandon_row(claim, caller)
            return
        together = cast(TogetherClaim, claim)
        pipeline = self._pipelines.get(together.generation)
        if pipeline is not None:
            pipeline.abandon_row(together, caller)

    def describe(
        self, servable: str | None, version: VersionName | None = None, method: str | None = None
    ) -> Description:
        """Describe a version that is READY; raises NotFound or Unavailable."""
        if servable is None:
            servable = self._routes.only()
        door = self._routes.find(servable, version)
        if isinstance(door, Pipeline):
            return door.description(method)
        return of_model(door.description, method)

    def methods(self, servable: str, version: VersionName | None = None) -> tuple[str, ...]:
        """Return the names of a version's methods; see ``DataPlane``."""
        door = self._routes.find(servable, version)
        return door.names if isinstance(door, Pipeline) else ()

    async def servables(self) -> list[dict[str, Any]]:
        """List every version with its state and reason; see ``DataPlane``."""
        return self.listed()

    def listed(self) -> list[dict[str, Any]]:
        """List every version with its state and reason, and what can never be one."""
        manager = self._known()
        rows: list[dict[str, Any]] = [
            row_of(v, self._routes.labels_of(v.servable, v.number), self._scheduler.workers_with)
            for v in manager.versions.values()
        ]
        rows += [
            {"name": name, "version": None, "state": State.FAILED.value, "reason": reason}
            for name, reason in manager.unservable.items()
        ]
        listed = {row["name"] for row in rows}
        rows += [
            {"name": name, "version": None, "state": State.UNLOADED.value, "reason": "not loaded"}
            for name in manager.available - listed
        ]
        return sorted(rows, key=lambda row: (str(row["name"]), row["version"] or 0))

    def tallies(self) -> list[str]:
        """Say for each version that was asked anything how much it did, for the last log lines."""
        return [tally_of(seen) for seen in self._snapshots() if seen.successes or seen.failed]

    def answered_with(self, error: ServingError, front_end: str) -> None:
        """Count a call that was answered with an error."""
        self.counted(front_end, error.code)

    def counted(self, front_end: str, code: str) -> None:
        """Count a call that was answered with an error of this code."""
        self._errors[front_end, code] += 1

    async def statistics(self) -> ServerStatistics:
        """Return what has been counted, and how the server is; see ``DataPlane``."""
        process = usage_of(os.getpid())
        assert process is not None
        return ServerStatistics(
            versions=self._snapshots(),
            errors=tuple(ErrorAnswers(*key, n) for key, n in sorted(self._errors.items())),
            workers=self._workers(),
            memory=TensorMemory(
                self._arena.used_bytes, self._arena.total_bytes, self._arena.budget_bytes
            ),
            process=process,
            stages=tuple(door.stages() for door in self._routes if isinstance(door, Pipeline)),
        )

    async def index(self) -> list[dict[str, Any]]:
        """List what ``servables`` lists; see ``DataPlane``."""
        if self._gate.explicit:
            await self.controlled().refresh()
        return self.listed()

    def let_in(self, authorization: str | None) -> None:
        """Return if a client may ask; see ``DataPlane``."""
        self._gate.let_in(authorization)

    def control(self, authorization: str | None) -> Control:
        """Return who loads and unloads; see ``DataPlane``."""
        self._gate.admit(authorization)
        return self.controlled()

    def controlled(self) -> Control:
        """Return who loads and unloads, for somebody who was admitted."""
        assert self._control is not None
        return self._control

    def live(self) -> bool:
        """Return True: whoever can call this, turns over."""
        return True

    def ready(self) -> bool:
        """Return whether the first scan is settled, something is READY, and nothing was lost.

        An empty repository is ready; with ``--strict-readiness`` every servable must serve, and
        none of its versions may have failed.
        """
        manager = self._known()
        if self.draining or not manager.settled:
            return False
        unloaded = all(v.state is State.UNLOADED for v in manager.versions.values())
        if unloaded and not manager.unservable:
            return True  # an empty folder, or all was taken down as somebody asked
        names = {name for name, _ in manager.versions}
        if any(not self._serves(name) for name in self._was_ready & names):
            return False
        if self._strict:
            return not manager.unservable and all(self._serves_all(name) for name in names)
        return bool(self._routes)

    @property
    def routes(self) -> Routes:
        """What requests are routed by."""
        return self._routes

    # -- inside --------------------------------------------------------------------------------

    def _snapshots(self) -> tuple[VersionStatistics, ...]:
        now, clock_s = time.monotonic(), time.time()
        found: list[VersionStatistics] = []
        for door in self._routes:
            if isinstance(door, Pipeline):
                found += door.snapshots(now, clock_s)
            else:
                found.append(door.snapshot(now, clock_s))
        return tuple(found)

    def _known(self) -> Manager:
        assert self._manager is not None
        return self._manager

    def _serves_all(self, servable: str) -> bool:
        """Return whether no version of it failed; one that is on its way beside another is fine."""
        states = {v.state for v in self._known().versions.values() if v.servable == servable}
        return State.FAILED not in states and (
            servable in self._routes or states <= {State.UNLOADED}
        )

    def _serves(self, servable: str) -> bool:
        """Return whether a worker is there that has some version of it loaded."""
        return any(
            door.serves if isinstance(door, Pipeline) else self._scheduler.has_slot(door.model)
            for door in self._routes.of(servable)
        )
