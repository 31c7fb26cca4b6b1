"""Brings versions from their files to READY's doorstep: inspected, judged, proved, loaded, warm.

Knows nothing of what serves already: every version is loaded under a number of its own, beside
all others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from serving.artifact import Artifact, Format
from serving.errors import LoadError
from serving.lifecycle.fleet import Fleet, StageFleet, StageOrder
from serving.lifecycle.member import Member
from serving.lifecycle.placing import CHANGED, Placer, Terms
from serving.lifecycle.proofs import Proofs
from serving.lifecycle.state import State
from serving.lifecycle.version import Version, who
from serving.repository.conversions import Conversions
from serving.repository.declared_model import may_be_freed, threads_of, unproved
from serving.repository.definer import define
from serving.repository.definition_fit import misfit
from serving.repository.engines import Engines
from serving.repository.inspector import Inspector
from serving.repository.verdict import Verdict, judge

_log = logging.getLogger("serving.lifecycle")

_INSPECTION_SILENCE_S = 120.0
_SLOW_INSPECTION_S = 1.0
_INSPECTIONS_AT_ONCE = 4
_DEFINITIONS_AT_ONCE = 4


@dataclass(frozen=True)
class LoadLimits:
    """Engine threads in each worker and seconds for one load, where settings say nothing.

    ``helper_nice`` is added to the niceness of the processes that look at files.
    """

    threads: int
    timeout_s: float
    helper_nice: int = 0


class Loader:
    """Owns the lanes in which versions are inspected. Event loop only.

    ``kinds`` are the kinds of devices that the server has, in the order that they are asked in.
    """

    def __init__(
        self,
        fleet: Fleet,
        stages: StageFleet,
        proofs: Proofs,
        conversions: Conversions,
        limits: LoadLimits,
        engines: Engines | None = None,
        kinds: Sequence[str] = ("cpu",),
    ) -> None:
        self._fleet = fleet
        self._stages = stages
        self._conversions = conversions
        self._limits = limits
        self._kinds = kinds
        self._placer = Placer(fleet, proofs, engines)
        self._definitions = asyncio.Semaphore(_DEFINITIONS_AT_ONCE)

    async def inspect(self, versions: Iterable[Version], found: Callable[[Version], None]) -> None:
        """Inspect versions one by one and hand each over as soon as its file is known.

        An inspection that takes long (gigabytes of weights are read for the digest) opens
        another lane for those behind it, so that it delays nobody. Which files a version with
        stages has is not known yet: it is handed over as it is.
        """
        plain: list[Version] = []
        for version in versions:
            if version.members:
                plain.append(version)
            else:
                found(version)
        if not plain:
            return
        waiting = iter(plain)
        lanes = asyncio.Semaphore(_INSPECTIONS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            self._open_lane(waiting, found, group, lanes)

    async def load(self, version: Version, numbers: Iterator[int]) -> None:
        """Load an inspected version into the fleet; raises LoadError with the reason.

        Afterwards all that it consists of is there and warm, and it can be published. ``numbers``
        are for the models that only become known now.
        """
        timeout_s = version.settings.load_timeout_s or self._limits.timeout_s
        if not version.members:
            async with self._definitions:
                await self._define(version, numbers, timeout_s)
        verdicts = [self._look_at(version, member) for member in version.members]
        _check_methods(version)
        version.become(State.LOADING)
        begun: list[Member] = []
        try:
            for member, verdict in zip(version.members, verdicts, strict=True):
                begun.append(member)
                await self._load_member(version, member, verdict, timeout_s)
            _check_methods(version)  # now of models, too, that only their device could read
            if _has_stages(version):
                version.doing = "starting the processes of its functions"
                await self._stages.start(_stage_order(version, timeout_s))
            _phase(version, "warming")
            version.note = "; ".join(m.named(m.note) for m in version.members if m.note)
            await _check_unchanged(version)
        except BaseException:
            await asyncio.shield(self._unload(version, begun))
            raise

    async def unload(self, version: Version) -> None:
        """Take a version out of all workers, and end those that were its own."""
        await self._unload(version, version.members)

    async def _unload(self, version: Version, members: Iterable[Member]) -> None:
        if _has_stages(version):
            await self._stages.stop(version.generation)
        for member in members:
            await self._fleet.unload(member.model)

    # -- inspection ----------------------------------------------------------------------------

    def _open_lane(
        self,
        waiting: Iterator[Version],
        found: Callable[[Version], None],
        group: asyncio.TaskGroup,
        lanes: asyncio.Semaphore,
    ) -> None:
        async def lane() -> None:
            async with lanes, self._inspector() as inspector:
                for version in waiting:
                    slow = loop.call_later(
                        _SLOW_INSPECTION_S, self._open_lane, waiting, found, group, lanes
                    )
                    try:
                        for member in version.members:
                            await self._inspect(version, member, inspector)
                    finally:
                        slow.cancel()
                    found(version)

        loop = asyncio.get_running_loop()
        group.create_task(lane())

    async def _define(self, version: Version, numbers: Iterator[int], timeout_s: float) -> None:
        """Find out what a version with stages registers, and look into its models."""
        source = version.source
        assert source is not None
        assert source.code is not None
        version.doing = "running its servable_config.py"
        stages = version.settings.stages
        definition = await define(
            version.servable,
            source.code,
            source.path,
            timeout_s=timeout_s,
            stages=stages,
            nice=self._limits.helper_nice,
        )
        version.define(definition, numbers)
        if version.members:
            async with self._inspector() as inspector:
                for member in version.members:
                    await self._inspect(version, member, inspector)

    def _inspector(self) -> Inspector:
        return Inspector(timeout_s=_INSPECTION_SILENCE_S, nice=self._limits.helper_nice)

    async def _inspect(self, version: Version, member: Member, inspector: Inspector) -> None:
        """Ask about a model's file, and keep what it was converted to."""
        free = may_be_freed(member.declared)
        member.kept = self._conversions.ask(member.path, version.settings, free=free)
        began = time.monotonic()
        version.doing = f"looking into {member.file}"

        def told(doing: str) -> None:
            version.doing = f"looking into {member.file}: {doing}"
            if time.monotonic() - began > _SLOW_INSPECTION_S:
                _log.info("still looking into it: %s", doing, extra=who(version))

        member.artifact = await inspector.inspect(member.kept.question, told)
        member.kept.settle(member.artifact)

    # -- loading -------------------------------------------------------------------------------

    def _look_at(self, version: Version, member: Member) -> Verdict:
        """Judge a model, and say what is about to be loaded; raises LoadError."""
        artifact = member.artifact
        assert artifact is not None
        for note in artifact.notes:
            _log.warning("%s", member.named(note), extra=who(version))
        verdict = self._judged(version, member)
        _log.info("loading%s", _origin(member, artifact), extra=who(version))
        return verdict

    def _judged(self, version: Version, member: Member) -> Verdict:
        """Judge a model by what was found out about it; raises LoadError if it cannot run."""
        artifact = member.artifact
        assert artifact is not None
        declared = member.declared or (version.triton.declaration if version.triton else None)
        verdict = judge(artifact, version.settings, declared, self._kinds)
        for note in verdict.notes:
            _log.warning("%s", member.named(note), extra=who(version))
        if not verdict.runs:
            raise LoadError(member.named(verdict.reason))
        member.artifact = replace(artifact, signature=verdict.signature)
        return verdict

    async def _load_member(
        self, version: Version, member: Member, verdict: Verdict, timeout_s: float
    ) -> None:
        terms = self._terms(version, member, timeout_s)
        try:
            if verdict.signature is None:
                await self._placer.read(version, member, verdict, terms)
                verdict = self._judged(version, member)
            await self._placer.place(version, member, verdict, terms)
        except LoadError as error:
            if member.declared is not None:
                error.message = member.named(error.message)
            raise

    def _terms(self, version: Version, member: Member, timeout_s: float) -> Terms:
        assert version.source is not None

        def check() -> None:
            if problem := _unproved(member):
                raise LoadError(problem)

        return Terms(
            version.settings.threads or _threads(member) or self._limits.threads,
            timeout_s,
            lambda phase: _phase(version, phase),
            version.source.unchanged,
            check,
        )


async def _check_unchanged(version: Version) -> None:
    assert version.source is not None
    if not await asyncio.to_thread(version.source.unchanged):
        raise LoadError(CHANGED)


def _check_methods(version: Version) -> None:
    """Raise LoadError where the methods of a version do not fit what is known of its models."""
    if version.definition is None:
        return
    signatures = {
        (m.declared.key, m.subgraph): m.artifact.signature
        for m in version.members
        if m.declared is not None and m.artifact is not None and m.artifact.signature is not None
    }
    problem = misfit(version.definition, signatures, version.settings.methods.hidden)
    if problem:
        raise LoadError(problem)


def _phase(version: Version, phase: str) -> None:
    if phase == "warming" and version.state is State.LOADING:
        version.become(State.WARMING)


def _origin(member: Member, artifact: Artifact) -> str:
    """Say what a converted model is, and whether it had to be converted now."""
    made = artifact.conversion
    name = "" if member.declared is None else f" {member.file}"
    if made is None:
        return name
    if artifact.format is Format.ONNX:
        how = "before" if made.cached else f"in {made.took_s:.2f} s"
        return f"{name} with its first axis freed {how} ({artifact.detail})"
    how = "was converted before" if made.cached else f"converted in {made.took_s:.2f} s"
    return f"{name} a MindIR by {artifact.producer}, {how} ({artifact.detail})"


def _threads(member: Member) -> int | None:
    return None if member.declared is None else threads_of(member.declared)


def _unproved(member: Member) -> str:
    """Say why a declared model cannot be run as it is declared, or return ``""``."""
    assert member.artifact is not None
    signature = member.artifact.signature
    if member.declared is None or signature is None:
        return ""
    return unproved(member.declared, signature, member.batch)


def _has_stages(version: Version) -> bool:
    return version.definition is not None and bool(version.definition.stages)


def _stage_order(version: Version, timeout_s: float) -> StageOrder:
    assert version.source is not None
    assert version.source.code is not None
    assert version.definition is not None
    return StageOrder(
        version.generation,
        version.servable,
        version.number,
        version.source.code,
        version.definition,
        version.settings,
        timeout_s,
        version.source.unchanged,
    )
