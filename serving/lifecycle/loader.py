"""Brings versions from their files to READY's doorstep: inspected, judged, proved, loaded, warm.

Knows nothing of what serves already: every version is loaded under a number of its own, beside
all others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from serving.artifact import Artifact
from serving.channel.messages import Load, Loaded
from serving.errors import LoadError, ServingError
from serving.lifecycle.fleet import Fleet
from serving.lifecycle.proofs import Proofs
from serving.lifecycle.state import State
from serving.lifecycle.version import Version, who
from serving.repository.conversions import Conversions
from serving.repository.inspector import Inspector
from serving.repository.verdict import Verdict, judge
from serving.tensor import BatchAxes

_log = logging.getLogger("serving.lifecycle")

_TRIALS_AT_ONCE = 2
_SLOW_TRIAL_S = 5.0
_SLOW_TRIALS_AT_ONCE = 8
_INSPECTION_SILENCE_S = 120.0
_SLOW_INSPECTION_S = 1.0
_INSPECTIONS_AT_ONCE = 4


@dataclass(frozen=True)
class LoadLimits:
    """Engine threads in each worker and seconds for one load, where settings say nothing."""

    threads: int
    timeout_s: float


class Loader:
    """Owns the lanes in which versions are inspected and tried out. Event loop only."""

    def __init__(
        self,
        fleet: Fleet,
        proofs: Proofs,
        conversions: Conversions,
        limits: LoadLimits,
    ) -> None:
        self._fleet = fleet
        self._proofs = proofs
        self._conversions = conversions
        self._limits = limits
        self._lanes = asyncio.Semaphore(_TRIALS_AT_ONCE)
        self._slow_lanes = asyncio.Semaphore(_SLOW_TRIALS_AT_ONCE)

    async def inspect(
        self, versions: Iterable[Version], found: Callable[[Version, Artifact], None]
    ) -> None:
        """Inspect versions one by one and hand each over as soon as it is known.

        An inspection that takes long (gigabytes of weights are read for the digest) opens
        another lane for those behind it, so that it delays nobody.
        """
        waiting = iter(versions)
        lanes = asyncio.Semaphore(_INSPECTIONS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            self._open_lane(waiting, found, group, lanes)

    async def load(self, version: Version, artifact: Artifact) -> Loaded:
        """Load an inspected version into the fleet; raises LoadError with the reason.

        Afterwards it is warm in every worker and can be published.
        """
        version.artifact = artifact
        verdict = judge(
            artifact, version.settings, version.triton.declaration if version.triton else None
        )
        for note in (*artifact.notes, *verdict.notes):
            _log.warning("%s", note, extra=who(version))
        if not verdict.runs:
            raise LoadError(verdict.reason)
        version.artifact = replace(artifact, signature=verdict.signature)
        version.become(State.LOADING)
        _log.info("loading%s", _origin(artifact), extra=who(version))
        timeout_s = version.settings.load_timeout_s or self._limits.timeout_s
        order = self._order(version, artifact, verdict)
        version.batch = await self._proved(version, order, artifact, timeout_s)
        loaded = await self._fleet.load(
            _with(order, version.batch), timeout_s, lambda phase: _phase(version, phase)
        )
        _phase(version, "warming")
        version.note = loaded.note
        try:
            await _check_unchanged(version)
        except BaseException:
            await asyncio.shield(self._fleet.unload(version.model))
            raise
        return loaded

    # -- inspection ----------------------------------------------------------------------------

    def _open_lane(
        self,
        waiting: Iterator[Version],
        found: Callable[[Version, Artifact], None],
        group: asyncio.TaskGroup,
        lanes: asyncio.Semaphore,
    ) -> None:
        async def lane() -> None:
            async with lanes, Inspector(timeout_s=_INSPECTION_SILENCE_S) as inspector:
                for version in waiting:
                    assert version.source is not None
                    slow = loop.call_later(
                        _SLOW_INSPECTION_S, self._open_lane, waiting, found, group, lanes
                    )
                    try:
                        artifact = await self._inspected(version, version.source.path, inspector)
                    finally:
                        slow.cancel()
                    found(version, artifact)

        loop = asyncio.get_running_loop()
        group.create_task(lane())

    async def _inspected(self, version: Version, path: Path, inspector: Inspector) -> Artifact:
        """Ask about a version's file, and keep what it was converted to."""
        version.kept = self._conversions.ask(path, version.settings)
        began = time.monotonic()

        def told(doing: str) -> None:
            if time.monotonic() - began > _SLOW_INSPECTION_S:
                _log.info("still looking into it: %s", doing, extra=who(version))

        artifact = await inspector.inspect(version.kept.question, told)
        version.kept.settle(artifact)
        return artifact

    # -- loading -------------------------------------------------------------------------------

    def _order(self, version: Version, artifact: Artifact, verdict: Verdict) -> Load:
        assert version.source is not None
        conversion = artifact.conversion
        return Load(
            model=version.model,
            name=version.servable,
            path=str(version.source.path) if conversion is None else conversion.path,
            backend=artifact.backend,
            batch=verdict.batch.to_json(),
            static_outputs=artifact.static_outputs,
            max_batch_size=verdict.max_batch_size,
            threads=version.settings.threads or self._limits.threads,
            prove=True,
        )

    async def _proved(
        self, version: Version, order: Load, artifact: Artifact, timeout_s: float
    ) -> BatchAxes:
        """Return the proved batch axes: remembered by content, or from a trial load now."""
        known = self._proofs.recall(order, artifact.identity) if artifact.identity else None
        if known is not None:
            return known
        loaded = await self._trial(order, timeout_s)
        batch = BatchAxes.from_json(loaded.batch)
        await _check_unchanged(version)  # else the proof would be of another content
        if artifact.identity:
            self._proofs.remember(order, artifact.identity, batch)
        return batch

    async def _trial(self, order: Load, timeout_s: float) -> Loaded:
        """Run a trial load in one of a few lanes.

        A trial that takes long gives its lane to the next, so that a model which hangs delays
        nobody; only the number of slow ones together is bounded.
        """
        async with self._slow_lanes:
            await self._lanes.acquire()
            trial = asyncio.create_task(self._fleet.try_out(order, timeout_s))
            try:
                await asyncio.wait({trial}, timeout=_SLOW_TRIAL_S)
            finally:
                self._lanes.release()
            try:
                return await trial
            finally:
                trial.cancel()
                with contextlib.suppress(asyncio.CancelledError, ServingError):
                    await trial


async def _check_unchanged(version: Version) -> None:
    assert version.source is not None
    if not await asyncio.to_thread(version.source.unchanged):
        raise LoadError("its files changed while it was being loaded; it is tried again")


def _phase(version: Version, phase: str) -> None:
    if phase == "warming" and version.state is State.LOADING:
        version.become(State.WARMING)


def _with(order: Load, batch: BatchAxes) -> Load:
    fields = {**order.__dict__, "batch": batch.to_json(), "prove": False}
    return Load(**fields)


def _origin(artifact: Artifact) -> str:
    """Say what a converted model is, and whether it had to be converted now."""
    made = artifact.conversion
    if made is None:
        return ""
    how = "was converted before" if made.cached else f"converted in {made.took_s:.2f} s"
    return f" a MindIR by {artifact.producer}, {how} ({artifact.detail})"
