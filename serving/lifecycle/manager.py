"""Brings versions up and takes them down as the repository changes: the life of a servable.

Level-triggered: whenever an offer changes, a load ends or a version is gone, the servable is
planned anew from what is offered and what there is, so that no event can be missed and a failure
is never the last word. The manager decides nothing about requests: it tells its ``Publisher`` when
a version begins and ceases to serve, and asks the ``Loader`` to load and unload.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Protocol

from serving.errors import LoadError, ServingError
from serving.lifecycle.loader import Loader
from serving.lifecycle.plan import Known, plan
from serving.lifecycle.policy import absent, wanted
from serving.lifecycle.state import State
from serving.lifecycle.version import Version, who
from serving.repository.labels import NONE, Labels, problems
from serving.repository.observation import Offer, Source, refused

_log = logging.getLogger("serving.lifecycle")

_LONGEST_REQUEST_S = 600.0
"""How long a version that was replaced is kept for its last request: it costs memory only."""

Key = tuple[str, int]
"""Servable and version number."""


class Publisher(Protocol):
    """Who opens and closes the doors of a version."""

    def publish(self, version: Version) -> None:
        """The version is READY: route requests to it, and no more to another of its number."""
        ...

    def label(self, servable: str, labels: Labels) -> None:
        """Let versions be asked for by these names, each as soon as its version is READY."""
        ...

    async def retire(self, version: Version, deadline_s: float) -> None:
        """Route no more requests to it and wait until those it has are answered."""
        ...


class Manager:
    """Owns the versions. Event loop only.

    ``versions`` holds for each number the one that serves, else the last that was tried.
    """

    def __init__(self, loader: Loader, publisher: Publisher) -> None:
        self._loader = loader
        self._publisher = publisher
        self._serials = itertools.count(1)
        self._offers: dict[str, Offer] = {}
        self._tried: dict[Key, Source] = {}
        self._troubles: dict[Key, str] = {}
        self._busy: set[Key] = set()
        self._moved = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: set[tuple[str, str]] = set()
        self._keeps: set[str] = set()
        self._stopping = False
        self.versions: dict[Key, Version] = {}
        self.unservable: dict[str, str] = {}
        self.available: frozenset[str] = frozenset()
        self.settled = False

    async def stop(self) -> None:
        """End what is still being loaded."""
        self._stopping = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- what is wanted ------------------------------------------------------------------------

    def offer_all(self, offers: Mapping[str, Offer]) -> None:
        """Take over what the whole repository offers now, and begin what is to be done."""
        mine: dict[str, list[int]] = {name: [] for name in offers.keys() | self._offers.keys()}
        for name, number in self.versions:
            mine.setdefault(name, []).append(number)
        self._offers = dict(offers)
        self._begin([v for name in sorted(mine) for v in self._step(name, mine[name])])

    def offer(self, name: str, offer: Offer) -> None:
        """Take over what one servable offers; versions that failed are tried again."""
        self._offers[name] = offer
        self._keeps.discard(name)
        for key in [k for k in self._tried if k[0] == name and not self._serves(k)]:
            del self._tried[key]
        self._begin(self._step(name, self._numbers(name)))

    def withdraw(self, name: str) -> None:
        """Take a servable down; its versions stay listed as unloaded."""
        self._offers.pop(name, None)
        self._keeps.add(name)
        self._begin(self._step(name, self._numbers(name)))

    async def quiet(self, name: str | None = None) -> None:
        """Wait until nothing is being loaded or taken down (of one servable)."""
        while any(name in (None, key[0]) for key in self._busy):
            self._moved.clear()
            await self._moved.wait()

    def failures(self, name: str) -> list[str]:
        """Say what keeps a servable's offer from being served as it is; nothing if it is."""
        if name in self.unservable:
            return [self.unservable[name]]
        return [
            f"version {number}: {version.reason or version.trouble}"
            for (servable, number), version in sorted(self.versions.items())
            if servable == name and (version.state is State.FAILED or version.trouble)
        ]

    # -- planning ------------------------------------------------------------------------------

    def _step(self, name: str, numbers: Iterable[int]) -> list[Version]:
        """Plan one servable, let go of what is to go, and return what is to be loaded.

        ``numbers`` are those of its versions that are known.
        """
        offer = self._offers.get(name)
        mine = {number: self.versions[name, number] for number in numbers}
        known = {
            number: Known(
                version.state is State.READY,
                self._tried.get((name, number)),
                (name, number) in self._busy,
            )
            for number, version in mine.items()
        }
        step = plan(offer, known)
        for number in step.forget:
            if name not in self._keeps or mine[number].state is not State.UNLOADED:
                self._forget((name, number))
        for number in step.retire:
            self._retire(mine[number])
        self._note_refusals(name, offer, sorted(mine))
        if offer is None:
            self._publisher.label(name, NONE)
            return []
        if not offer.servable.reason:  # else what was said before still holds
            self._publisher.label(name, offer.servable.settings.labels)
        self._tell_notes(offer, set(step.wanted))
        return [self._new(name, number, offer) for number in step.load]

    def _new(self, name: str, number: int, offer: Offer) -> Version:
        key, source = (name, number), offer.sources[number]
        version = Version(next(self._serials), name, number, source, offer.servable.settings)
        self._tried[key] = source
        self._busy.add(key)
        if not self._serves(key):
            self.versions[key] = version
        return version

    def _note_refusals(self, name: str, offer: Offer | None, numbers: list[int]) -> None:
        """List what cannot be loaded at all; on what serves it is noted as trouble."""
        reason = "" if offer is None else _refusal(offer)
        reasons = {} if offer is None else {v.version: v.reason for v in refused(offer.servable)}
        for number, why in reasons.items():
            self._refuse(name, number, why, offer)
        serving = [self.versions[name, n] for n in numbers if self._serves((name, n))]
        for version in serving:
            trouble = reason or reasons.get(version.number, "")
            version.trouble = (
                _goes_on(trouble) if trouble else self._troubles.get(_key(version), "")
            )
        if reason and not serving:
            if self.unservable.get(name) != reason:
                _log.error("cannot serve: %s", reason, extra={"servable": name})
            self.unservable[name] = reason
        else:
            self.unservable.pop(name, None)
            if reason:
                self._tell(name, _goes_on(reason))

    def _refuse(self, name: str, number: int, reason: str, offer: Offer | None) -> None:
        key = (name, number)
        there = self.versions.get(key)
        if self._serves(key) or key in self._busy or (there and there.reason == reason):
            return
        assert offer is not None
        version = Version(next(self._serials), name, number, None, offer.servable.settings)
        self.versions[key] = version
        self._tried.pop(key, None)
        self._fail(version, reason)

    def _tell_notes(self, offer: Offer, chosen: set[int]) -> None:
        """Log what is noteworthy about a servable's folder, once."""
        servable = offer.servable
        for note in servable.notes:
            self._tell(servable.name, note)
        for entry in servable.versions:
            if entry.path is None or entry.version in chosen:
                for note in entry.notes:
                    self._tell(servable.name, note)
        policy = servable.settings.versions
        for number in () if servable.reason else absent(servable.available, policy):
            self._tell(
                servable.name,
                f"version {number} is asked for by versions = {policy} and not there",
            )
        labels = {} if servable.reason else servable.settings.labels
        for problem in problems(labels, chosen, servable.available, policy):
            self._tell(servable.name, problem)

    def _tell(self, name: str, note: str) -> None:
        if (name, note) not in self._told:
            self._told.add((name, note))
            _log.warning("%s", note, extra={"servable": name})

    def _replan(self, name: str) -> None:
        if not self._stopping:
            self._begin(self._step(name, self._numbers(name)))

    # -- bringing up ---------------------------------------------------------------------------

    def _begin(self, versions: list[Version]) -> None:
        if versions:
            self._task(self._bring_up(versions))

    async def _bring_up(self, versions: Iterable[Version]) -> None:
        left = {version.generation: version for version in versions}

        def found(version: Version) -> None:
            del left[version.generation]
            self._task(self._load(version))

        try:
            await self._loader.inspect(list(left.values()), found)
        except Exception:
            _log.exception("inspecting broke")
            for version in left.values():
                self._fail(version, "an unexpected failure while inspecting; the log has more")
                self._at_rest(_key(version))

    async def _load(self, version: Version) -> None:
        """Load a version; whatever happens is its own affair."""
        began = time.monotonic()
        try:
            await self._loader.load(version, self._serials)
            version.load_ms = (time.monotonic() - began) * 1e3
            try:
                self._publish(version)
            except Exception as error:
                await self._loader.unload(version)
                raise LoadError("it could not be published; the log has more") from error
            _log.info("ready in %.0f ms%s", version.load_ms, _batching(version), extra=who(version))
            if version.note:
                _log.warning("%s", version.note, extra=who(version))
        except ServingError as error:
            if error.__cause__ is not None:
                _log.error("publishing broke", exc_info=error.__cause__, extra=who(version))
            self._fail(version, str(error))
        except Exception:
            _log.exception("loading broke", extra=who(version))
            self._fail(version, "an unexpected failure while loading; the log has more")
        self._at_rest(_key(version))

    def _publish(self, version: Version) -> None:
        """Switch to a loaded version: requests from here on are its own."""
        key = _key(version)
        before = self.versions.get(key)
        self._publisher.publish(version)
        version.become(State.READY)
        self.versions[key] = version
        self._troubles.pop(key, None)
        if before is not None and before is not version and before.state is State.READY:
            self._retire(before)

    def _fail(self, version: Version, reason: str) -> None:
        version.become(State.FAILED, reason)
        version.let_go()
        key = _key(version)
        if self._serves(key):
            self._troubles[key] = reason = _goes_on(reason)
            self.versions[key].trouble = reason
        _log.error("cannot serve: %s", reason, extra=who(version))

    # -- taking down ---------------------------------------------------------------------------

    def _retire(self, version: Version) -> None:
        version.become(State.DRAINING)
        key = _key(version)
        if self.versions.get(key) is version:
            self._busy.add(key)
        self._task(self._take_down(version))

    async def _take_down(self, version: Version) -> None:
        key = _key(version)
        _log.info("draining", extra=who(version))
        try:
            await self._publisher.retire(version, _LONGEST_REQUEST_S)
            await self._loader.unload(version)
        except Exception:
            _log.exception("unloading broke", extra=who(version))
        version.let_go()
        version.become(State.UNLOADED, "unloaded")
        _log.info("unloaded", extra=who(version))
        if self.versions.get(key) is version:
            if key[0] not in self._keeps:
                self._forget(key)
            self._at_rest(key)

    def condemn(self, model: int, reason: str) -> None:
        """Take a READY version down as FAILED: one of its models keeps ending its workers."""
        for version in self.versions.values():
            if version.state is State.READY and model in [m.model for m in version.members]:
                version.become(State.FAILED, reason)
                _log.error("serves no more: %s", reason, extra=who(version))
                self._busy.add(_key(version))
                self._task(self._put_away(version))
                return

    async def _put_away(self, version: Version) -> None:
        """Let a condemned version's requests fail, and its memory go; it stays listed."""
        try:
            await self._publisher.retire(version, 0.0)
            await self._loader.unload(version)
        except Exception:
            _log.exception("unloading broke", extra=who(version))
        version.let_go()
        self._at_rest(_key(version))

    # -- inside --------------------------------------------------------------------------------

    def _numbers(self, name: str) -> list[int]:
        return [number for servable, number in self.versions if servable == name]

    def _serves(self, key: Key) -> bool:
        version = self.versions.get(key)
        return version is not None and version.state is State.READY

    def _forget(self, key: Key) -> None:
        self.versions.pop(key, None)
        self._tried.pop(key, None)
        self._troubles.pop(key, None)

    def _at_rest(self, key: Key) -> None:
        """Something ended: what is next for the servable may be possible now."""
        self._busy.discard(key)
        self._replan(key[0])
        self._moved.set()

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _key(version: Version) -> Key:
    return version.servable, version.number


def _refusal(offer: Offer) -> str:
    """Say why nothing of a servable is to be served, or return ``""``."""
    servable = offer.servable
    if servable.reason or not offer.sources:
        return servable.reason
    policy = servable.settings.versions
    return (
        "" if wanted(servable.available, policy) else f"no version is wanted by versions = {policy}"
    )


def _goes_on(reason: str) -> str:
    return f"what lies in its folder now is not served: {reason}; what was loaded before goes on"


def _batching(version: Version) -> str:
    said = [version.batching, version.placement] if version.members else []
    return "".join(f", {text}" for text in said if text)
