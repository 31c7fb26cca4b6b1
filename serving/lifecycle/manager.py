"""Brings versions up and takes them down: the life of a servable, one task per version.

The manager decides nothing about requests: it tells its ``Publisher`` when a version begins and
ceases to serve, and asks the ``Fleet`` to load and unload.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from serving.artifact import Artifact
from serving.channel.messages import Load, Loaded
from serving.errors import LoadError, ServingError
from serving.lifecycle.fleet import Fleet
from serving.lifecycle.policy import absent, wanted
from serving.lifecycle.proofs import Proofs
from serving.lifecycle.state import State
from serving.lifecycle.version import Version
from serving.repository.inspector import Inspector
from serving.repository.scanner import RepositoryScan, ServableScan, scan
from serving.repository.verdict import Verdict, judge
from serving.tensor import BatchAxes

_log = logging.getLogger("serving.lifecycle")

_TRIALS_AT_ONCE = 2
_SLOW_TRIAL_S = 5.0
_SLOW_TRIALS_AT_ONCE = 8
_INSPECTION_TIMEOUT_S = 120.0
_SLOW_INSPECTION_S = 1.0
_INSPECTIONS_AT_ONCE = 4


class Publisher(Protocol):
    """Who opens and closes the doors of a version."""

    def publish(self, version: Version) -> None:
        """The version is READY: route requests to it."""
        ...

    async def retire(self, version: Version, deadline_s: float) -> None:
        """Route no more requests to it and wait until those it has are answered."""
        ...


class Manager:
    """Owns the versions. Event loop only."""

    def __init__(
        self,
        model_dir: Path,
        fleet: Fleet,
        publisher: Publisher,
        proofs: Proofs,
        *,
        threads: int,
        load_timeout_s: float,
    ) -> None:
        self._model_dir = model_dir
        self._fleet = fleet
        self._publisher = publisher
        self._proofs = proofs
        self._threads = threads
        self._load_timeout_s = load_timeout_s
        self._models = itertools.count(1)
        self._lanes = asyncio.Semaphore(_TRIALS_AT_ONCE)
        self._slow_lanes = asyncio.Semaphore(_SLOW_TRIALS_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self.versions: dict[tuple[str, int], Version] = {}
        self.unservable: dict[str, str] = {}
        self.settled = False

    async def start(self) -> None:
        """Look at the repository and bring up what is wanted; returns when all is settled.

        Raises ConfigError when the model directory itself cannot be served.
        """
        found = await asyncio.to_thread(scan, self._model_dir)
        for note in found.notes:
            _log.warning("%s", note)
        await self._bring_up(found)
        self.settled = True  # every version of the first scan is READY or FAILED

    async def stop(self) -> None:
        """End what is still being loaded."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- bringing up --------------------------------------------------------------------------

    async def _bring_up(self, found: RepositoryScan) -> None:
        versions = [v for servable in found.servables for v in self._wanted(servable)]
        async with asyncio.TaskGroup() as group:
            self._inspect(iter(versions), group, asyncio.Semaphore(_INSPECTIONS_AT_ONCE))
        await asyncio.gather(*list(self._tasks))

    def _inspect(
        self, versions: Iterator[Version], group: asyncio.TaskGroup, lanes: asyncio.Semaphore
    ) -> None:
        """Inspect the versions one by one and begin to load each.

        An inspection that takes long (gigabytes of weights are read for the digest) opens
        another lane for those behind it, so that it delays nobody.
        """

        async def lane() -> None:
            async with lanes, Inspector(timeout_s=_INSPECTION_TIMEOUT_S) as inspector:
                for version in versions:
                    if version.path is None:
                        continue
                    slow = loop.call_later(_SLOW_INSPECTION_S, open_lane)
                    try:
                        artifact = await inspector.inspect(version.path)
                    finally:
                        slow.cancel()
                    task = loop.create_task(self._load_guarded(version, artifact))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

        def open_lane() -> None:
            group.create_task(lane())

        loop = asyncio.get_running_loop()
        open_lane()

    def _wanted(self, servable: ServableScan) -> Iterator[Version]:
        for note in servable.notes:
            _log.warning("%s", note, extra={"servable": servable.name})
        if servable.reason:
            self.unservable[servable.name] = servable.reason
            _log.error("cannot serve: %s", servable.reason, extra={"servable": servable.name})
        policy = servable.settings.versions
        numbers = wanted(servable.available, policy)
        for number in absent(servable.available, policy):
            _log.warning(
                "version %d is asked for by versions = %s and not there", number, policy,
                extra={"servable": servable.name},
            )  # fmt: skip
        if servable.available and not numbers:
            self.unservable[servable.name] = f"no version is wanted by versions = {policy}"
        for entry in servable.versions:
            for note in entry.notes:
                _log.warning("%s", note, extra={"servable": servable.name})
            refused = entry.path is None
            if not refused and entry.version not in numbers:
                continue
            version = Version(
                next(self._models),
                servable.name,
                entry.version,
                entry.path,
                servable.settings,
                servable.triton,
            )
            version.example = servable.example
            self.versions[servable.name, entry.version] = version
            if refused:
                self._fail(version, entry.reason)
            yield version

    async def _load_guarded(self, version: Version, artifact: Artifact) -> None:
        """Load a version; whatever happens is its own affair."""
        version.artifact = artifact
        try:
            await self._load(version, artifact)
        except ServingError as error:
            self._fail(version, str(error))
        except Exception:
            _log.exception("loading broke", extra={"servable": version.servable})
            self._fail(version, "an unexpected failure while loading; the log has more")

    async def _load(self, version: Version, artifact: Artifact) -> None:
        declared = version.triton.declaration if version.triton else None
        verdict = judge(artifact, version.settings, declared)
        for note in (*artifact.notes, *verdict.notes):
            _log.warning("%s", note, extra=_who(version))
        if not verdict.runs:
            raise LoadError(verdict.reason)
        version.artifact = replace(artifact, signature=verdict.signature)
        version.become(State.LOADING)
        _log.info("loading", extra=_who(version))
        began = time.monotonic()
        timeout_s = version.settings.load_timeout_s or self._load_timeout_s
        order = self._order(version, artifact, verdict)
        batch = await self._proved(order, artifact, timeout_s)
        loaded = await self._fleet.load(
            _with(order, batch), timeout_s, lambda phase: _phase(version, phase)
        )
        _phase(version, "warming")
        version.batch = batch
        version.note = loaded.note
        version.load_ms = (time.monotonic() - began) * 1e3
        version.become(State.READY)
        self._publisher.publish(version)
        _log.info("ready in %.0f ms, %s", version.load_ms, _batching(version), extra=_who(version))
        if loaded.note:
            _log.warning("%s", loaded.note, extra=_who(version))

    def _order(self, version: Version, artifact: Artifact, verdict: Verdict) -> Load:
        return Load(
            model=version.model,
            name=version.servable,
            path=str(version.path),
            backend=artifact.backend,
            batch=verdict.batch.to_json(),
            static_outputs=artifact.static_outputs,
            max_batch_size=verdict.max_batch_size,
            threads=version.settings.threads or self._threads,
            prove=True,
        )

    async def _proved(self, order: Load, artifact: Artifact, timeout_s: float) -> BatchAxes:
        """Return the proved batch axes: remembered by content, or from a trial load now."""
        known = self._proofs.recall(order, artifact.digest) if artifact.digest else None
        if known is not None:
            return known
        loaded = await self._trial(order, timeout_s)
        batch = BatchAxes.from_json(loaded.batch)
        if artifact.digest:
            self._proofs.remember(order, artifact.digest, batch)
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

    def _fail(self, version: Version, reason: str) -> None:
        version.become(State.FAILED, reason)
        _log.error("cannot serve: %s", reason, extra=_who(version))


def _phase(version: Version, phase: str) -> None:
    if phase == "warming" and version.state is State.LOADING:
        version.become(State.WARMING)


def _with(order: Load, batch: BatchAxes) -> Load:
    fields = {**order.__dict__, "batch": batch.to_json(), "prove": False}
    return Load(**fields)


def _who(version: Version) -> dict[str, object]:
    return {"servable": version.servable, "version": version.number}


def _batching(version: Version) -> str:
    if version.batch.batched:
        return f"batched up to {version.settings.max_batch_size}"
    return f"not batched: {version.batch.reason}"
