"""Which loaded version a request is for: by servable, and by number, label or neither."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from serving.errors import NotFound, Unavailable, did_you_mean, listing
from serving.lifecycle.manager import Manager
from serving.lifecycle.state import State
from serving.lifecycle.version import Version
from serving.master.labels import LabelBook
from serving.repository.labels import Labels
from serving.request import VersionName
from serving.scheduling.line import Line
from serving.scheduling.pipeline.pipeline import Pipeline

Door = Line | Pipeline
"""Where requests for one loaded version go: to its model, or to its methods."""


class Routes:
    """Owns the routes and the labels. Used by the data plane, event loop only."""

    def __init__(self) -> None:
        self._doors: dict[str, dict[int, Door]] = {}
        self._labels = LabelBook()
        self._manager: Manager | None = None

    def attach(self, manager: Manager) -> None:
        """Learn who knows the versions, those too that do not serve."""
        self._manager = manager

    def add(self, version: Version, door: Door) -> None:
        """Let a version's number, and whatever stands for it, lead to a door."""
        self._doors.setdefault(version.servable, {})[version.number] = door
        self._tell(version.servable)

    def remove(self, version: Version, door: Door) -> bool:
        """Take a door off, unless another has its number; True if the servable has none left."""
        doors = self._doors.get(version.servable, {})
        if doors.get(version.number) is not door:
            return False
        del doors[version.number]
        self._tell(version.servable)
        if doors:
            return False
        del self._doors[version.servable]
        return True

    def label(self, servable: str, labels: Labels) -> None:
        """Let versions be asked for by these names, each as soon as its version is there."""
        self._labels.want(servable, labels)
        self._tell(servable)

    def labels_of(self, servable: str, number: int) -> list[str]:
        """Return the labels that stand for a version now."""
        return sorted(self._labels.of_version(servable, number))

    def __contains__(self, servable: str) -> bool:
        return servable in self._doors

    def __bool__(self) -> bool:
        return bool(self._doors)

    def __iter__(self) -> Iterator[Door]:
        """Iterate over all doors in order of name and number."""
        for _, doors in sorted(self._doors.items()):
            for _, door in sorted(doors.items()):
                yield door

    def of(self, servable: str) -> list[Door]:
        """Return the doors of one servable's versions."""
        return list(self._doors.get(servable, {}).values())

    def only(self) -> str:
        """Return the one servable that there is; raises NotFound."""
        if len(self._doors) == 1:
            return next(iter(self._doors))
        names = sorted(self._doors)
        raise NotFound(
            "the request names no servable and there is not exactly one"
            if names
            else "no servable is ready",
            code="servable_not_named" if names else "no_servable",
            where="servable",
            expected=f"one of {listing(names)}" if names else "",
        )

    def find(self, servable: str, version: VersionName | None) -> Door:
        """Return where a request goes; raises NotFound or Unavailable."""
        doors = self._doors.get(servable)
        number = self._labels.number(servable, version) if isinstance(version, str) else version
        if doors:
            door = doors[max(doors)] if version is None else doors.get(number or 0)
            if door is not None:
                return door
        if isinstance(version, str):
            raise self._no_label(servable, version)
        raise self._absent(servable, version)

    # -- inside --------------------------------------------------------------------------------

    def _tell(self, servable: str) -> None:
        """Let the description of every version name all that are READY, and their labels."""
        doors = self._doors.get(servable, {})
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

    def _no_label(self, servable: str, label: str) -> NotFound | Unavailable:
        number = self._labels.wanted(servable, label)
        known = {name for name, _ in self._known().versions}
        if number is not None or servable not in known:
            error = self._absent(servable, number)
            if number is not None:
                error.message = f"label {label!r} has no version to stand for: {error.message}"
            return error
        labels = self._labels.offered(servable)
        return NotFound(
            f"servable {servable!r} has no version and no label {label!r}",
            code="unknown_version",
            where="version",
            expected=f"a number, or one of {listing(labels)}" if labels else "a number",
            fix=did_you_mean(label, labels) or "leave the version out for the newest",
        )

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
