"""The data plane of this process: front ends on one side, scheduler and versions on the other."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from serving.artifact import Artifact
from serving.channel.arena import Arena
from serving.dataplane import Claim
from serving.errors import (
    InternalError,
    NotFound,
    ServingError,
    Unavailable,
    did_you_mean,
    listing,
)
from serving.lifecycle.control import Control
from serving.lifecycle.manager import Manager
from serving.lifecycle.state import State
from serving.lifecycle.version import Version
from serving.master.gate import Gate
from serving.master.usage import usage_of
from serving.repository.triton_effective import config_json, effective_config
from serving.request import Description, InferRequest
from serving.scheduling.line import Line, LineSettings
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.ticket import Ticket
from serving.statistics import (
    ErrorAnswers,
    ServerStatistics,
    TensorMemory,
    VersionStatistics,
    WorkerStatistics,
)

_PLATFORMS = {
    ("onnx", "onnxruntime"): "onnxruntime_onnx",
    ("mindir", "onnxruntime"): "mindspore_mindir",
    ("mindir-encrypted", "onnxruntime"): "mindspore_mindir",
}

_STRAGGLERS_S = 0.1
"""How long a version that is being replaced still takes requests that were decoded for it."""


def _details(version: Version, artifact: Artifact, platform: str) -> dict[str, Any]:
    details: dict[str, Any] = {"format": artifact.format.value, "backend": artifact.backend}
    assert version.source is not None
    assert artifact.signature is not None
    details["config"] = config_json(
        effective_config(
            version.servable,
            platform,
            artifact.backend,
            version.source.path.name,
            version.settings,
            artifact.signature,
            version.batch,
            version.triton,
        )
    )
    if version.example is not None:
        details["example"] = version.example.to_json()
    return details


class MasterPlane:
    """Implements ``DataPlane`` and the manager's ``Publisher``. Event loop only.

    ``_lines`` is what requests are routed by; ``_open`` holds all lines by generation, those too
    that only answer what was meant for them.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        arena: Arena,
        workers: Callable[[], tuple[WorkerStatistics, ...]],
        gate: Gate,
        *,
        strict_readiness: bool,
    ) -> None:
        self._scheduler = scheduler
        self._arena = arena
        self._workers = workers
        self._errors: Counter[tuple[str, str]] = Counter()
        self._gate = gate
        self._strict = strict_readiness
        self._manager: Manager | None = None
        self._control: Control | None = None
        self._lines: dict[str, dict[int, Line]] = {}
        self._open: dict[int, Line] = {}
        self._was_ready: set[str] = set()
        self.draining = False

    def attach(self, manager: Manager, control: Control) -> None:
        """Learn who knows the versions; manager and plane know each other."""
        self._manager = manager
        self._control = control

    # -- Publisher -----------------------------------------------------------------------------

    def publish(self, version: Version) -> None:
        """Open a waiting room for a version and route its number there, in one step."""
        artifact = version.artifact
        if artifact is None or artifact.signature is None:
            raise InternalError("a version became ready without a signature")
        settings = version.settings
        delay_ms = settings.max_queue_delay_ms
        platform = _PLATFORMS.get((artifact.format.value, artifact.backend), artifact.backend)
        description = Description(
            servable=version.servable,
            version=version.number,
            signature=artifact.signature,
            batch=version.batch,
            max_batch_size=settings.max_batch_size if version.batch.batched else 0,
            platform=platform,
            details=_details(version, artifact, platform),
            generation=version.model,
        )
        line = Line(
            version.model,
            description,
            LineSettings(
                max_batch_size=settings.max_batch_size,
                max_queue_delay_s=None if delay_ms is None else delay_ms / 1e3,
                max_queue_size=settings.max_queue_size,
                max_queue_bytes=settings.max_queue_mb << 20,
            ),
            artifact.static_outputs,
            self._arena,
        )
        self._open[version.model] = line
        self._lines.setdefault(version.servable, {})[version.number] = line
        self._tell_versions(version.servable)
        self._was_ready.add(version.servable)
        self._scheduler.add_line(line)

    async def retire(self, version: Version, deadline_s: float) -> None:
        """Route nothing more to a version, wait for what it has, and give its memory back."""
        line = self._open[version.model]
        lines = self._lines.get(version.servable, {})
        if lines.get(version.number) is line:
            del lines[version.number]
            self._tell_versions(version.servable)
            if not lines:
                # Taken down because it was asked for, not lost: the server stays ready.
                del self._lines[version.servable]
                self._was_ready.discard(version.servable)
        # Requests that were being decoded for it when the routes changed still come.
        await asyncio.sleep(_STRAGGLERS_S)
        try:
            await self._scheduler.remove_line(line, deadline_s)
        finally:
            del self._open[version.model]
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
            line = self._line(request.servable, request.version)
        try:
            return self._scheduler.claim(line, request)
        except ServingError as error:
            line.statistics.refuse(error)
            raise

    def commit(self, claim: Claim) -> None:
        """Let a claimed request run."""
        self._scheduler.commit(cast(Ticket, claim))

    def abandon(self, claim: Claim) -> None:
        """Withdraw a claimed request."""
        self._scheduler.abandon(cast(Ticket, claim))

    def describe(
        self, servable: str | None, version: int | None = None, method: str | None = None
    ) -> Description:
        """Describe a version that is READY; raises NotFound or Unavailable."""
        if servable is None:
            servable = self._only()
        description = self._line(servable, version).description
        if method:
            raise NotFound(f"servable {servable!r} has no method {method!r}", code="unknown_method")
        return description

    def servables(self) -> list[dict[str, Any]]:
        """List every version with its state and reason, and what can never be one."""
        manager = self._known()
        rows: list[dict[str, Any]] = [
            {
                "name": v.servable,
                "version": v.number,
                "state": v.state.value,
                "reason": v.said,
                "batched": v.batch.batched,
                "batching": v.batch.reason,
            }
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
        return [
            f"{seen.servable} version {seen.version}: "
            f"{seen.successes + seen.failed} requests, {seen.failed} failed, "
            f"{seen.executions} runs of {seen.mean_rows:.1f} rows and {seen.mean_infer_ms:.2f} ms "
            "on average"
            for seen in self._snapshots()
            if seen.executions
        ]

    def answered_with(self, error: ServingError, front_end: str) -> None:
        """Count a call that was answered with an error."""
        self._errors[front_end, error.code] += 1

    def statistics(self) -> ServerStatistics:
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
        )

    async def index(self) -> list[dict[str, Any]]:
        """List what ``servables`` lists; see ``DataPlane``."""
        if self._gate.explicit:
            await self._controlled().refresh()
        return self.servables()

    def control(self, authorization: str | None) -> Control:
        """Return who loads and unloads; see ``DataPlane``."""
        self._gate.admit(authorization)
        return self._controlled()

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
        if any(not self._serves(name) for name in self._was_ready):
            return False
        if self._strict:
            names = {name for name, _ in manager.versions}
            return not manager.unservable and all(self._serves_all(name) for name in names)
        return bool(self._lines)

    # -- inside --------------------------------------------------------------------------------

    def _snapshots(self) -> tuple[VersionStatistics, ...]:
        now, clock_s = time.monotonic(), time.time()
        return tuple(
            line.snapshot(now, clock_s)
            for _, lines in sorted(self._lines.items())
            for _, line in sorted(lines.items())
        )

    def _known(self) -> Manager:
        assert self._manager is not None
        return self._manager

    def _controlled(self) -> Control:
        assert self._control is not None
        return self._control

    def _tell_versions(self, servable: str) -> None:
        """Let the description of every version name all that are READY, in order."""
        lines = self._lines[servable]
        for line in lines.values():
            line.description = replace(line.description, versions=tuple(sorted(lines)))

    def _serves_all(self, servable: str) -> bool:
        """Return whether no version of it failed; one that is on its way beside another is fine."""
        states = {v.state for v in self._known().versions.values() if v.servable == servable}
        return State.FAILED not in states and (
            servable in self._lines or states <= {State.UNLOADED}
        )

    def _serves(self, servable: str) -> bool:
        """Return whether a worker is there that has some version of it loaded."""
        lines = self._lines.get(servable, {})
        return any(self._scheduler.has_slot(line.model) for line in lines.values())

    def _only(self) -> str:
        if len(self._lines) == 1:
            return next(iter(self._lines))
        names = sorted(self._lines)
        raise NotFound(
            "the request names no servable and there is not exactly one"
            if names
            else "no servable is ready",
            code="servable_not_named" if names else "no_servable",
            where="servable",
            expected=f"one of {listing(names)}" if names else "",
        )

    def _line(self, servable: str, version: int | None) -> Line:
        lines = self._lines.get(servable)
        if lines:
            line = lines[max(lines)] if version is None else lines.get(version)
            if line is not None:
                return line
        raise self._absent(servable, version)

    def _absent(self, servable: str, version: int | None) -> NotFound | Unavailable:
        manager = self._known()
        numbers = sorted(v for name, v in manager.versions if name == servable)
        if not numbers and servable not in manager.unservable:
            if servable in manager.available:
                return NotFound(
                    f"servable {servable!r} is not loaded",
                    code="unknown_servable",
                    where="servable",
                    fix=f"load it: serving load {servable!r}",
                )
            names = {name for name, _ in manager.versions}
            return NotFound(
                f"no servable is called {servable!r}",
                code="unknown_servable",
                where="servable",
                expected=f"one of {listing(sorted(names))}" if names else "",
                fix=did_you_mean(servable, names),
            )
        if version is not None and version not in numbers:
            return NotFound(
                f"servable {servable!r} has no version {version}",
                code="unknown_version",
                where="version",
                expected=f"one of {listing(numbers)}" if numbers else "",
                fix="leave the version out for the newest" if numbers else "",
            )
        if servable in manager.unservable:
            reason = manager.unservable[servable]
            return Unavailable(
                f"servable {servable!r} cannot be served: {reason}", code="not_ready"
            )
        chosen = manager.versions[servable, numbers[-1] if version is None else version]
        return Unavailable(
            f"servable {servable!r} version {chosen.number} is {chosen.state.value}"
            + (f": {chosen.reason}" if chosen.reason else ""),
            code="not_ready",
            retry_after_s=None if chosen.state is State.FAILED else 1.0,
        )
