"""Brings one model to every kind of device that runs it: built, tried out, loaded.

Each kind is prepared for itself. What fails on one of them fails the version if nothing else runs
it or its settings ask for that backend; else the others serve it, and its note says what does not
and why.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from serving.artifact import Artifact
from serving.channel.messages import Load, Loaded
from serving.devices import BACKENDS
from serving.errors import LoadError, ServingError
from serving.lifecycle.fleet import Fleet
from serving.lifecycle.member import Member, Placed
from serving.lifecycle.proofs import Proofs
from serving.lifecycle.samples import samples_for
from serving.lifecycle.version import Version, who
from serving.repository.backend_choice import SECOND_TITLE, Choice, kinds_for
from serving.repository.engines import Built, Engines, Order
from serving.repository.verdict import Verdict
from serving.tensor import BatchAxes, Signature

_log = logging.getLogger("serving.lifecycle")

_TRIALS_AT_ONCE = 2
_SLOW_TRIAL_S = 5.0
_SLOW_TRIALS_AT_ONCE = 8


@dataclass(frozen=True)
class Terms:
    """What holds for all loads of a model: engine threads, seconds, and who hears of phases.

    ``unchanged`` says whether its files still are what was looked into; ``check`` raises LoadError
    where the batch axes that the proof left will not do.
    """

    threads: int
    timeout_s: float
    on_phase: Callable[[str], None]
    unchanged: Callable[[], bool]
    check: Callable[[], None]


@dataclass(frozen=True)
class _Prepared:
    """One kind of device, ready to be loaded: how, and with which batch axes.

    ``note`` says why it is not by the kind's first backend.
    """

    choice: Choice
    order: Load
    batch: BatchAxes
    note: str = ""


class Placer:
    """Owns the lanes in which models are tried out. Event loop only."""

    def __init__(self, fleet: Fleet, proofs: Proofs, engines: Engines | None) -> None:
        self._fleet = fleet
        self._proofs = proofs
        self._engines = engines
        self._lanes = asyncio.Semaphore(_TRIALS_AT_ONCE)
        self._slow_lanes = asyncio.Semaphore(_SLOW_TRIALS_AT_ONCE)

    async def read(self, version: Version, member: Member, verdict: Verdict, terms: Terms) -> None:
        """Have a device read a file that nothing else can; raises LoadError.

        Its signature, and the numbers of rows that it was compiled for, are known then. Such gears
        are its maker's word that the first axes count rows; real runs still test it.
        """
        (choice, *_) = verdict.choices.made
        artifact = _artifact(member)
        path, built = await self._path(version, member, verdict, choice)
        order = self._order(version, member, verdict, choice, terms, path)
        version.doing = f"reading {member.file} on {choice.kind}"
        loaded = await self._trial(replace(order, prove=False), terms.timeout_s, choice)
        signature = Signature.from_json(loaded.signature)
        batch = _by_gears(signature, loaded.gears)
        identity = "" if built is None else built.identity
        member.artifact = replace(
            artifact, signature=signature, batch=batch, digest=artifact.digest or identity
        )

    async def place(self, version: Version, member: Member, verdict: Verdict, terms: Terms) -> None:
        """Load a model on all kinds of devices that are to run it; raises LoadError."""
        troubles = _unexpected(_artifact(member), version, verdict)
        prepared: list[_Prepared] = []
        for choice in verdict.choices.made:
            try:
                prepared.append(
                    await self._first_or_second(version, member, verdict, choice, terms)
                )
            except LoadError as error:
                self._trouble(version, verdict, choice, error, troubles)
        agreed = _agreed(prepared, troubles)
        member.batch = agreed[0].batch
        terms.check()
        placed: list[Placed] = []
        notes: list[str] = []
        version.doing = f"loading {member.file} into the workers"
        for ready in agreed:
            choice = ready.choice
            try:
                loaded = await self._load(ready, member, terms)
            except LoadError as error:
                self._trouble(version, verdict, choice, error, troubles)
                continue
            placed.append(Placed(choice.kind, choice.route.backend, loaded.gears))
            notes += [ready.note, loaded.note]
        if not placed:
            raise LoadError(_told(troubles))
        member.placed = tuple(placed)
        member.artifact = replace(_artifact(member), backend=placed[0].backend)
        said = [f"not on {kind}: {why}" for kind, why in troubles.items()]
        member.note = "; ".join(dict.fromkeys(note for note in (*notes, *said) if note))

    # -- one kind ------------------------------------------------------------------------------

    async def _first_or_second(
        self, version: Version, member: Member, verdict: Verdict, choice: Choice, terms: Terms
    ) -> _Prepared:
        """Prepare a kind by its first backend, or aloud by the second; raises LoadError."""
        try:
            return await self._prepare(version, member, verdict, choice, terms)
        except LoadError as error:
            refusal = error
        other = choice.instead(refusal)
        if other is None:
            raise refusal
        try:
            ready = await self._prepare(version, member, verdict, other, terms)
        except LoadError as error:
            if str(error) == CHANGED:
                raise
            said = f"{refusal}; nor is {SECOND_TITLE} of use: {error}"
            raise LoadError(said, code=refusal.code) from error
        first = choice.route.backend
        note = f"on {choice.kind} by {SECOND_TITLE}: {first} cannot take it: {refusal}"
        _log.warning("%s", member.named(note), extra=who(version))
        return replace(ready, note=note)

    async def _prepare(
        self, version: Version, member: Member, verdict: Verdict, choice: Choice, terms: Terms
    ) -> _Prepared:
        path, built = await self._path(version, member, verdict, choice)
        order = self._order(version, member, verdict, choice, terms, path)
        version.doing = f"trying {member.file} out"
        batch = await self._proved(member, order, choice, built, terms)
        return _Prepared(choice, order, batch)

    async def _path(
        self, version: Version, member: Member, verdict: Verdict, choice: Choice
    ) -> tuple[Path, Built | None]:
        """Return what an engine loads: the file, what it was converted to, or what is built."""
        artifact = _artifact(member)
        conversion = artifact.conversion
        source = member.path if conversion is None else Path(conversion.path)
        if not choice.route.builder:
            return source, None
        if made := member.made.get(choice.kind):
            return made.path, made
        settings = version.settings
        backend = choice.route.backend
        assert self._engines is not None
        order = Order(
            source,
            "onnx" if conversion is not None else artifact.format.value,
            verdict.signature,
            verdict.batch,
            verdict.max_batch_size,
            settings.batch_sizes,
            self._options(version, backend),
        )

        def tell(doing: str) -> None:
            version.doing = f"{member.file} for {choice.kind}: {doing}"

        built = await self._engines.build(choice.route, order, tell)
        member.hold(built.held)
        member.made[choice.kind] = built
        how = "was built before" if built.cached else f"built in {built.took_s:.1f} s"
        said = f"engine for {choice.kind} {'; '.join((how, *built.notes))}"
        _log.info("%s", member.named(said), extra=who(version))
        return built.path, built

    def _order(
        self,
        version: Version,
        member: Member,
        verdict: Verdict,
        choice: Choice,
        terms: Terms,
        path: Path,
    ) -> Load:
        backend = choice.route.backend
        return Load(
            model=member.model,
            name=version.servable,
            path=str(path),
            backend=backend,
            batch=verdict.batch.to_json(),
            static_outputs=_artifact(member).static_outputs,
            max_batch_size=verdict.max_batch_size,
            threads=terms.threads,
            prove=True,
            options=self._options(version, backend),
            **samples_for(version),
        )

    def _options(self, version: Version, backend: str) -> dict[str, str]:
        own = version.settings.options.get(backend, {})
        return dict(own) if self._engines is None else self._engines.options(backend, own)

    async def _proved(
        self, member: Member, order: Load, choice: Choice, built: Built | None, terms: Terms
    ) -> BatchAxes:
        """Return the proved batch axes: remembered by content, or from a trial load now."""
        identity = _identity(_artifact(member), choice, built)
        known = self._proofs.recall(order, identity) if identity else None
        if known is not None:
            return known
        loaded = await self._trial(order, terms.timeout_s, choice)
        if choice.kind != "cpu":
            _check_signature(_artifact(member), loaded, choice)
        batch = BatchAxes.from_json(loaded.batch)
        if not await asyncio.to_thread(terms.unchanged):
            # The proof would be of another content.
            raise LoadError(CHANGED)
        if identity:
            self._proofs.remember(order, identity, batch)
        return batch

    async def _load(self, ready: _Prepared, member: Member, terms: Terms) -> Loaded:
        order = replace(ready.order, batch=member.batch.to_json(), prove=False)
        where = ready.choice.where
        loaded = await self._fleet.load(order, terms.timeout_s, terms.on_phase, where)
        if where.kind != "cpu":
            try:
                _check_signature(_artifact(member), loaded, ready.choice)
            except LoadError:
                await self._fleet.unload(member.model, where)
                raise
        return loaded

    async def _trial(self, order: Load, timeout_s: float, choice: Choice) -> Loaded:
        """Run a trial load in one of a few lanes.

        A trial that takes long gives its lane to the next, so that a model which hangs delays
        nobody; only the number of slow ones together is bounded.
        """
        async with self._slow_lanes:
            await self._lanes.acquire()
            trial = asyncio.create_task(self._fleet.try_out(order, timeout_s, choice.where))
            try:
                try:
                    await asyncio.wait({trial}, timeout=_SLOW_TRIAL_S)
                finally:
                    self._lanes.release()
                return await trial
            finally:
                trial.cancel()
                with contextlib.suppress(asyncio.CancelledError, ServingError):
                    await trial

    def _trouble(
        self,
        version: Version,
        verdict: Verdict,
        choice: Choice,
        error: LoadError,
        troubles: dict[str, str],
    ) -> None:
        """Note why a kind does not serve it; raise it where no other kind may take its place."""
        troubles[choice.kind] = str(error)
        alone = len(verdict.choices.made) == 1
        if alone or version.settings.backend is not None or str(error) == CHANGED:
            raise error
        _log.error("does not run on %s: %s", choice.kind, error, extra=who(version))


CHANGED = "its files changed while it was being loaded; it is tried again"


def _unexpected(artifact: Artifact, version: Version, verdict: Verdict) -> dict[str, str]:
    """Return why kinds do not run it that run others of its format, unless that was asked for."""
    if version.settings.backend is not None:
        return {}
    able = kinds_for(artifact.format)
    return {kind: why for kind, why in verdict.choices.refused.items() if kind in able}


def _agreed(prepared: Sequence[_Prepared], troubles: dict[str, str]) -> list[_Prepared]:
    """Return the kinds that may serve together: all batch alike.

    One on which rows touch each other, or disagree with themselves, would need other batches than
    its fellows: it is left out, and said to be.
    """
    if not prepared:
        raise LoadError(_told(troubles))
    batched = [ready for ready in prepared if ready.batch.batched]
    if not batched:
        return list(prepared)
    for ready in prepared:
        if not ready.batch.batched:
            troubles[ready.choice.kind] = f"it does not batch there: {ready.batch.reason}"
    return batched


def _identity(artifact: Artifact, choice: Choice, built: Built | None) -> str:
    """Return what tells one proof from another, empty where a proof cannot be kept.

    The version of an engine in the environment of a device's workers is known to its builder
    alone: what runs there without one is tried out at every start.
    """
    if built is not None:
        return built.identity
    known = choice.kind == "cpu" or choice.route.backend == BACKENDS[choice.kind]
    return artifact.identity if known else ""


def _told(troubles: dict[str, str]) -> str:
    if len(troubles) == 1:
        return next(iter(troubles.values()))
    return "; ".join(f"on {kind}: {why}" for kind, why in troubles.items())


def _artifact(member: Member) -> Artifact:
    assert member.artifact is not None
    return member.artifact


def _by_gears(signature: Signature, gears: tuple[int, ...] | None) -> BatchAxes:
    if gears is None:
        return BatchAxes.refused(
            "nothing in the file says which axis counts rows (batch_axes in servable.toml can)"
        )
    specs = (*signature.inputs, *signature.outputs)
    if any(not spec.shape for spec in specs):
        return BatchAxes.refused("it has gears, but a tensor without a first axis")
    if any(isinstance(spec.shape[0], int) for spec in signature.inputs if spec.shape):
        # A sentence's length may vary in gears as well.
        return BatchAxes.refused(
            "what varies in its gears is not the first axis of each input (batch_axes in "
            "servable.toml can say what counts rows)"
        )
    return BatchAxes(
        True, "it was compiled for several batch sizes",
        (0,) * len(signature.inputs), (0,) * len(signature.outputs),
    )  # fmt: skip


def _check_signature(artifact: Artifact, loaded: Loaded, choice: Choice) -> None:
    """Refuse an engine that takes or gives other tensors than the model it was made of."""
    wanted, seen = artifact.signature, Signature.from_json(loaded.signature)
    assert wanted is not None
    for side in ("inputs", "outputs"):
        ours = [(spec.name, spec.dtype.name) for spec in getattr(wanted, side)]
        theirs = [(spec.name, spec.dtype.name) for spec in getattr(seen, side)]
        if ours != theirs:
            raise LoadError(
                f"{choice.route.backend} sees other {side} than the model has",
                code="signature_differs",
                expected=", ".join(f"{name} {dtype}" for name, dtype in ours),
                given=", ".join(f"{name} {dtype}" for name, dtype in theirs),
            )
