"""The data plane of this process: front ends on one side, scheduler and versions on the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from serving.artifact import Artifact
from serving.channel.arena import Arena
from serving.dataplane import Claim
from serving.errors import InternalError, NotFound, Unavailable, did_you_mean, listing
from serving.lifecycle.manager import Manager
from serving.lifecycle.state import State
from serving.lifecycle.version import Version
from serving.repository.triton_effective import config_json, effective_config
from serving.request import Description, InferRequest
from serving.scheduling.line import Line, LineSettings
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.ticket import Ticket

_PLATFORMS = {("onnx", "onnxruntime"): "onnxruntime_onnx"}


def _details(version: Version, artifact: Artifact, platform: str) -> dict[str, Any]:
    details: dict[str, Any] = {"format": artifact.format.value, "backend": artifact.backend}
    assert version.path is not None
    assert artifact.signature is not None
    details["config"] = config_json(
        effective_config(
            version.servable,
            platform,
            artifact.backend,
            version.path.name,
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
    """Implements ``DataPlane`` and the manager's ``Publisher``. Event loop only."""

    def __init__(self, scheduler: Scheduler, arena: Arena, *, strict_readiness: bool) -> None:
        self._scheduler = scheduler
        self._arena = arena
        self._strict = strict_readiness
        self._manager: Manager | None = None
        self._lines: dict[str, dict[int, Line]] = {}
        self._was_ready: set[str] = set()
        self.draining = False

    def attach(self, manager: Manager) -> None:
        """Learn who knows the versions; manager and plane know each other."""
        self._manager = manager

    # -- Publisher -----------------------------------------------------------------------------

    def publish(self, version: Version) -> None:
        """Open a waiting room for a version that is READY."""
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
        self._lines.setdefault(version.servable, {})[version.number] = line
        self._tell_versions(version.servable)
        self._was_ready.add(version.servable)
        self._scheduler.add_line(line)

    async def retire(self, version: Version, deadline_s: float) -> None:
        """Route nothing more to a version and wait for what it has."""
        line = self._lines[version.servable].pop(version.number)
        self._tell_versions(version.servable)
        if not self._lines[version.servable]:
            del self._lines[version.servable]
        await self._scheduler.remove_line(line, deadline_s)

    # -- DataPlane -----------------------------------------------------------------------------

    def claim(self, request: InferRequest) -> Claim:
        """Check a request and take a place for it; see ``DataPlane``."""
        if self.draining:
            raise Unavailable(
                "the server is going down and takes no more requests",
                code="draining",
                retry_after_s=5.0,
            )
        return self._scheduler.claim(self._line(request.servable, request.version), request)

    def commit(self, claim: Claim) -> None:
        """Let a claimed request run."""
        self._scheduler.commit(cast(Ticket, claim))

    def abandon(self, claim: Claim) -> None:
        """Withdraw a claimed request."""
        self._scheduler.abandon(cast(Ticket, claim))

    def describe(self, servable: str | None, version: int | None = None) -> Description:
        """Describe a version that is READY; raises NotFound or Unavailable."""
        if servable is None:
            servable = self._only()
        return self._line(servable, version).description

    def servables(self) -> list[dict[str, Any]]:
        """List every version with its state and reason, and what can never be one."""
        manager = self._known()
        rows: list[dict[str, Any]] = [
            {
                "name": v.servable,
                "version": v.number,
                "state": v.state.value,
                "reason": v.reason or v.note,
                "batched": v.batch.batched,
                "batching": v.batch.reason,
            }
            for v in manager.versions.values()
        ]
        rows += [
            {"name": name, "version": None, "state": State.FAILED.value, "reason": reason}
            for name, reason in manager.unservable.items()
        ]
        return sorted(rows, key=lambda row: (str(row["name"]), row["version"] or 0))

    def tallies(self) -> list[str]:
        """Say for each version that was asked anything how much it did, for the last log lines."""
        lines = [line for lines in self._lines.values() for line in lines.values()]
        return [
            f"{line.description.servable} version {line.description.version}: "
            f"{line.statistics.requests} requests, {line.statistics.failures} failed, "
            f"{line.statistics.runs} runs of {line.statistics.rows / line.statistics.runs:.1f} "
            f"rows and {line.statistics.infer_ns / line.statistics.runs / 1e6:.2f} ms on average"
            for line in lines
            if line.statistics.runs
        ]

    def live(self) -> bool:
        """Return True: whoever can call this, turns over."""
        return True

    def ready(self) -> bool:
        """Return whether the first scan is settled, something is READY, and nothing was lost.

        An empty repository is ready; with ``--strict-readiness`` every version must be READY.
        """
        manager = self._known()
        if self.draining or not manager.settled:
            return False
        if not manager.versions and not manager.unservable:
            return True
        if any(not self._serves(name) for name in self._was_ready):
            return False
        states = [version.state for version in manager.versions.values()]
        if self._strict:
            return not manager.unservable and all(state is State.READY for state in states)
        return bool(self._lines)

    # -- inside --------------------------------------------------------------------------------

    def _known(self) -> Manager:
        assert self._manager is not None
        return self._manager

    def _tell_versions(self, servable: str) -> None:
        """Let the description of every version name all that are READY, in order."""
        lines = self._lines[servable]
        for line in lines.values():
            line.description = replace(line.description, versions=tuple(sorted(lines)))

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
