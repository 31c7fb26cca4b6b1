"""What is served, as a front-end process knows it: a copy of the master's routes.

The master sends a servable's *entry* whenever something about it has changed, so that a request
needs no round trip to be decoded. The master stays the judge: a claim names the generation that it
was decoded for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from serving.gateway.words import description_from_json
from serving.lifecycle.lookup import Lookup, Standing, no_method, of_model, usual_method
from serving.lifecycle.state import State
from serving.request import Description, VersionName


@dataclass(frozen=True)
class KnownVersion:
    """A version that is known, whether it serves or not."""

    number: int
    state: State
    reason: str


@dataclass(frozen=True)
class KnownDoor:
    """A version that takes requests: ``models`` has its description where it has no methods.

    ``methods`` are all that can be asked for, ``names`` those that are told of.
    """

    model: Description | None
    names: tuple[str, ...]
    methods: Mapping[str, Description]

    def description(self, method: str | None) -> Description:
        """Describe a method; see ``DataPlane``."""
        if self.model is not None:
            return of_model(self.model, method)
        found = self.methods.get(method or usual_method(self.names))
        if found is None:
            raise no_method(next(iter(self.methods.values())).servable, self.names, method)
        return found


@dataclass(frozen=True)
class Entry:
    """All that is known of one servable."""

    doors: Mapping[int, KnownDoor]
    offered: Mapping[str, int]
    wanted: Mapping[str, int]
    versions: Mapping[int, KnownVersion]
    unservable: str | None
    available: bool


class Directory(Lookup[KnownDoor]):
    """Finds descriptions. Owned by the plane of a front-end process, event loop only."""

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[str, Entry] = {}

    def update(self, servables: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Take over entries; a description that has not changed stays the same object."""
        for name, told in servables.items():
            before = self._entries.pop(name, None)
            self.doors.pop(name, None)
            if told is None:
                continue
            entry = self._entries[name] = _entry(told, before)
            if entry.doors:
                self.doors[name] = dict(entry.doors)

    def describe(
        self, servable: str | None, version: VersionName | None, method: str | None
    ) -> Description:
        """Describe a method of a servable; see ``DataPlane``."""
        if servable is None:
            servable = self.only()
        return self.find(servable, version).description(method)

    def methods(self, servable: str, version: VersionName | None) -> tuple[str, ...]:
        """Return the names of a version's methods; see ``DataPlane``."""
        return self.find(servable, version).names

    # -- Lookup --------------------------------------------------------------------------------

    def label_number(self, servable: str, label: str) -> int | None:
        """Return the version that a label stands for now; see ``Lookup``."""
        entry = self._entries.get(servable)
        return None if entry is None else entry.offered.get(label)

    def label_wanted(self, servable: str, label: str) -> int | None:
        """Return the version that a label is to stand for; see ``Lookup``."""
        entry = self._entries.get(servable)
        return None if entry is None else entry.wanted.get(label)

    def labels_offered(self, servable: str) -> Iterable[str]:
        """Return the labels that may be asked for; see ``Lookup``."""
        entry = self._entries.get(servable)
        return () if entry is None else entry.offered

    def names(self) -> set[str]:
        """Return the names that versions are known of; see ``Lookup``."""
        return {name for name, entry in self._entries.items() if entry.versions}

    def standings(self, servable: str) -> dict[int, Standing]:
        """Return the versions of a servable; see ``Lookup``."""
        entry = self._entries.get(servable)
        return {} if entry is None else dict(entry.versions)

    def unservable(self, servable: str) -> str | None:
        """Return why a servable cannot be served; see ``Lookup``."""
        entry = self._entries.get(servable)
        return None if entry is None else entry.unservable

    def is_available(self, servable: str) -> bool:
        """Return whether a servable could be loaded; see ``Lookup``."""
        entry = self._entries.get(servable)
        return entry is not None and entry.available


def _entry(told: Mapping[str, Any], before: Entry | None) -> Entry:
    known = {} if before is None else before.doors
    return Entry(
        {int(n): _door(door, known.get(int(n))) for n, door in told["doors"].items()},
        told["offered"],
        told["wanted"],
        {int(n): KnownVersion(int(n), State(s), why) for n, (s, why) in told["versions"].items()},
        told["unservable"],
        told["available"],
    )


def _door(told: Mapping[str, Any], before: KnownDoor | None) -> KnownDoor:
    model = None if told["model"] is None else description_from_json(told["model"])
    methods = {name: description_from_json(known) for name, known in told["methods"].items()}
    door = KnownDoor(model, tuple(told["names"]), methods)
    # Codecs keep what they have found out about a description for as long as it is this object.
    return before if before == door else door
