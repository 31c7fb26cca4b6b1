"""The routes of the master: which door leads to which loaded version, and what labels stand for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from serving.lifecycle.lookup import Lookup, Standing
from serving.lifecycle.manager import Manager
from serving.lifecycle.version import Version
from serving.master.labels import LabelBook
from serving.repository.labels import Labels
from serving.scheduling.line import Line
from serving.scheduling.pipeline.pipeline import Pipeline

Door = Line | Pipeline
"""Where requests for one loaded version go: to its model, or to its methods."""


class Routes(Lookup[Door]):
    """Owns the routes and the labels. Used by the data plane, event loop only."""

    def __init__(self) -> None:
        super().__init__()
        self._labels = LabelBook()
        self._manager: Manager | None = None

    def attach(self, manager: Manager) -> None:
        """Learn who knows the versions, those too that do not serve."""
        self._manager = manager

    def add(self, version: Version, door: Door) -> None:
        """Let a version's number, and whatever stands for it, lead to a door."""
        self.doors.setdefault(version.servable, {})[version.number] = door
        self._tell(version.servable)

    def remove(self, version: Version, door: Door) -> bool:
        """Take a door off, unless another has its number; True if the servable has none left."""
        doors = self.doors.get(version.servable, {})
        if doors.get(version.number) is not door:
            return False
        del doors[version.number]
        self._tell(version.servable)
        if doors:
            return False
        del self.doors[version.servable]
        return True

    def label(self, servable: str, labels: Labels) -> None:
        """Let versions be asked for by these names, each as soon as its version is there."""
        self._labels.want(servable, labels)
        self._tell(servable)

    def labels_of(self, servable: str, number: int) -> list[str]:
        """Return the labels that stand for a version now."""
        return sorted(self._labels.of_version(servable, number))

    def labels(self, servable: str) -> dict[str, int]:
        """Return the labels of a servable that may be asked for, and what each stands for."""
        return dict(self._labels.offered(servable))

    def labels_wanted(self, servable: str) -> dict[str, int]:
        """Return the labels that its settings want, and what each is to stand for."""
        return dict(self._labels.all_wanted(servable))

    def everything(self) -> dict[str, dict[int, Standing]]:
        """Return the versions of all servables that anything is known of, in one pass."""
        known = self._known()
        found: dict[str, dict[int, Standing]] = {
            name: {} for name in (*known.unservable, *known.available, *self.doors)
        }
        for (name, number), version in known.versions.items():
            found.setdefault(name, {})[number] = version
        return found

    def __contains__(self, servable: str) -> bool:
        return servable in self.doors

    def __bool__(self) -> bool:
        return bool(self.doors)

    def __iter__(self) -> Iterator[Door]:
        """Iterate over all doors in order of name and number."""
        for _, doors in sorted(self.doors.items()):
            for _, door in sorted(doors.items()):
                yield door

    def of(self, servable: str) -> list[Door]:
        """Return the doors of one servable's versions."""
        return list(self.doors.get(servable, {}).values())

    # -- Lookup --------------------------------------------------------------------------------

    def label_number(self, servable: str, label: str) -> int | None:
        """Return the version that a label stands for now; see ``Lookup``."""
        return self._labels.number(servable, label)

    def label_wanted(self, servable: str, label: str) -> int | None:
        """Return the version that a label is to stand for; see ``Lookup``."""
        return self._labels.wanted(servable, label)

    def labels_offered(self, servable: str) -> Iterable[str]:
        """Return the labels that may be asked for; see ``Lookup``."""
        return self._labels.offered(servable)

    def names(self) -> set[str]:
        """Return the names that versions are known of; see ``Lookup``."""
        return {name for name, _ in self._known().versions}

    def standings(self, servable: str) -> dict[int, Standing]:
        """Return the versions of a servable; see ``Lookup``."""
        versions = self._known().versions
        return {number: v for (name, number), v in versions.items() if name == servable}

    def unservable(self, servable: str) -> str | None:
        """Return why a servable cannot be served; see ``Lookup``."""
        return self._known().unservable.get(servable)

    def is_available(self, servable: str) -> bool:
        """Return whether a servable could be loaded; see ``Lookup``."""
        return servable in self._known().available

    # -- inside --------------------------------------------------------------------------------

    def _tell(self, servable: str) -> None:
        """Let the description of every version name all that are READY, and their labels."""
        doors = self.doors.get(servable, {})
        versions, labels = tuple(sorted(doors)), self._labels.settle(servable, set(doors))
        for door in doors.values():
            if isinstance(door, Pipeline):
                door.retell(versions, labels)
                continue
            known = door.description
            if (known.versions, known.labels) != (versions, labels):
                door.description = replace(known, versions=versions, labels=labels)

    def _known(self) -> Manager:
        assert self._manager is not None
        return self._manager
