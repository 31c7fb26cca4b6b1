"""Which loaded version a request is for: by servable, and by number, label or neither.

The rule and its refusals, over whatever knows the versions: the routes of the master, and the copy
of them that a front-end process has.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from serving.errors import NotFound, Unavailable, did_you_mean, listing
from serving.lifecycle.state import State
from serving.request import Description, VersionName
from serving.v1 import METHOD

D = TypeVar("D")
"""A door: where requests for one loaded version go."""


class Standing(Protocol):
    """How a version stands, whether it serves or not."""

    @property
    def number(self) -> int:
        """Its number."""
        ...

    @property
    def state(self) -> State:
        """Where it is in its life."""
        ...

    @property
    def reason(self) -> str:
        """Why it is FAILED."""
        ...


class Lookup(ABC, Generic[D]):
    """Finds doors; ``doors`` has those of the versions that take requests, by name and number."""

    def __init__(self) -> None:
        self.doors: dict[str, dict[int, D]] = {}

    # -- what there is, beside doors -----------------------------------------------------------

    @abstractmethod
    def label_number(self, servable: str, label: str) -> int | None:
        """Return the version that a label stands for now, None if it cannot be asked for."""

    @abstractmethod
    def label_wanted(self, servable: str, label: str) -> int | None:
        """Return the version that a label is to stand for, whether it serves or not."""

    @abstractmethod
    def labels_offered(self, servable: str) -> Iterable[str]:
        """Return the labels of a servable that may be asked for."""

    @abstractmethod
    def names(self) -> set[str]:
        """Return the names of all servables that versions are known of."""

    @abstractmethod
    def standings(self, servable: str) -> dict[int, Standing]:
        """Return all versions of a servable that are known, by number."""

    @abstractmethod
    def unservable(self, servable: str) -> str | None:
        """Return why a servable cannot be served at all, None where it can."""

    @abstractmethod
    def is_available(self, servable: str) -> bool:
        """Return whether a servable that is not loaded could be."""

    # -- finding -------------------------------------------------------------------------------

    def only(self) -> str:
        """Return the one servable that there is; raises NotFound."""
        if len(self.doors) == 1:
            return next(iter(self.doors))
        names = sorted(self.doors)
        raise NotFound(
            "the request names no servable and there is not exactly one"
            if names
            else "no servable is ready",
            code="servable_not_named" if names else "no_servable",
            where="servable",
            expected=f"one of {listing(names)}" if names else "",
            fix=f'add "servable": {json.dumps(names[0])}, or another of them'
            if names
            else "the log and the page at / say why",
        )

    def find(self, servable: str, version: VersionName | None) -> D:
        """Return where a request goes; raises NotFound or Unavailable."""
        doors = self.doors.get(servable)
        number = self.label_number(servable, version) if isinstance(version, str) else version
        if doors:
            door = doors[max(doors)] if version is None else doors.get(number or 0)
            if door is not None:
                return door
        if isinstance(version, str):
            raise self._no_label(servable, version)
        raise self._absent(servable, version)

    def _no_label(self, servable: str, label: str) -> NotFound | Unavailable:
        number = self.label_wanted(servable, label)
        if number is not None or servable not in self.names():
            error = self._absent(servable, number)
            if number is not None:
                error.message = f"label {label!r} has no version to stand for: {error.message}"
            return error
        labels = list(self.labels_offered(servable))
        return NotFound(
            f"servable {servable!r} has no version and no label {label!r}",
            code="unknown_version",
            where="version",
            expected=f"a number, or one of {listing(labels)}" if labels else "a number",
            fix=did_you_mean(label, labels) or "leave the version out for the newest",
        )

    def _absent(self, servable: str, version: int | None) -> NotFound | Unavailable:
        known = self.standings(servable)
        numbers = sorted(known)
        reason = self.unservable(servable)
        if not numbers and reason is None:
            return self._unknown(servable)
        if version is not None and version not in numbers:
            return NotFound(
                f"servable {servable!r} has no version {version}",
                code="unknown_version",
                where="version",
                expected=f"one of {listing(numbers)}" if numbers else "",
                fix="leave the version out for the newest" if numbers else "",
            )
        if reason is not None:
            return Unavailable(
                f"servable {servable!r} cannot be served: {reason}", code="not_ready"
            )
        chosen = known[numbers[-1] if version is None else version]
        return Unavailable(
            f"servable {servable!r} version {chosen.number} is {chosen.state.value}"
            + (f": {chosen.reason}" if chosen.reason else ""),
            code="not_ready",
            retry_after_s=None if chosen.state is State.FAILED else 1.0,
        )

    def _unknown(self, servable: str) -> NotFound:
        if self.is_available(servable):
            return NotFound(
                f"servable {servable!r} is not loaded",
                code="unknown_servable",
                where="servable",
                fix=f"load it: serving load {servable!r}",
            )
        names = self.names()
        return NotFound(
            f"no servable is called {servable!r}",
            code="unknown_servable",
            where="servable",
            expected=f"one of {listing(sorted(names))}" if names else "",
            fix=did_you_mean(servable, names),
        )


def of_model(known: Description, method: str | None) -> Description:
    """Return the description of a model, which has the one method; raises NotFound."""
    if method and method != METHOD:
        raise NotFound(
            f"servable {known.servable!r} has no method {method[:80]!r}",
            code="unknown_method",
            where="method",
            expected=repr(METHOD),
            fix="leave the method out",
        )
    return known


def no_method(servable: str, offered: Iterable[str], method: str | None) -> NotFound:
    """Return the refusal of a method that a servable does not have, or that is not said."""
    names = sorted(offered)
    problem = f"has no method {method!r}" if method else "has several methods: name one"
    return NotFound(
        f"servable {servable!r} {problem if names else 'registers no method'}",
        code="unknown_method",
        where="method",
        expected=f"one of {listing(names)}" if names else "",
        fix=did_you_mean(method or "", names),
    )


def usual_method(offered: Sequence[str]) -> str:
    """Return the method that is meant where none is named: the only one, or ``predict``."""
    return offered[0] if len(offered) == 1 else METHOD
