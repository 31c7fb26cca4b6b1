"""The regions that clients have registered, by name; one list for all front ends of a server.

Source: Triton's system shared memory extension. A name can be given once; it is free again once
it is unregistered.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable

from serving.errors import InvalidRequest, NotFound, Overloaded
from serving.frontends.shared_memory.region import Region

MOST_REGIONS = 1024
LONGEST_NAME = 255
LARGEST = 2**63 - 1
"""Offsets and sizes of files end here."""


class Regions(ABC):
    """The list as a front end sees it; it changes on the event loop only.

    ``request_bytes`` is how much one request may read. Whoever keeps what was looked up is to
    forget it when ``on_unregister`` calls him.
    """

    def __init__(self, request_bytes: int) -> None:
        self.request_bytes = request_bytes
        self._known: dict[str, Region] = {}
        self.on_unregister: list[Callable[[], None]] = []

    @abstractmethod
    async def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Add a region; every front end knows it when this returns.

        Raises InvalidRequest, NotFound for the object, Overloaded.
        """

    @abstractmethod
    async def unregister(self, name: str | None = None) -> None:
        """Forget a region, or all; one that is not known is no error. Runs under way go on."""

    def status(self, name: str | None = None) -> dict[str, Region]:
        """Return one region, or all, by name; raises NotFound."""
        return dict(self._known) if name is None else {name: self.find(name, "name")}

    def find(self, name: str, where: str) -> Region:
        """Return a region; raises NotFound."""
        region = self._known.get(name)
        if region is None:
            raise NotFound(
                f"no shared memory region {name[:80]!r} is registered",
                code="unknown_region",
                where=where,
                fix="register it first; a server that was started anew has forgotten all",
            )
        return region


class Registry(Regions):
    """The list itself: made by the master when clients may use shared memory.

    ``most_bytes`` bounds all regions together: an open object keeps its memory, even when its
    client has removed the name. ``on_register`` is called as ``on_unregister`` is.
    """

    def __init__(self, most_bytes: int, request_bytes: int) -> None:
        super().__init__(request_bytes)
        self._most_bytes = most_bytes
        self._numbers = itertools.count(1)
        self.on_register: list[Callable[[], None]] = []

    async def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Add a region; see ``Regions``."""
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise InvalidRequest(
                "this cannot be the name of a region",
                code="bad_region_name",
                where="name",
                expected=f"1 to {LONGEST_NAME} printable characters",
                given=repr(name[:80]),
            )
        if name in self._known:
            raise InvalidRequest(
                f"a region {name!r} is registered already",
                code="region_taken",
                where="name",
                fix="unregister it first, or choose another name",
            )
        self._check_room(size)
        number = next(self._numbers)
        self._known[name] = Region.open(label(name), key, offset, size, "key", number)
        for told in self.on_register:
            told()

    async def unregister(self, name: str | None = None) -> None:
        """Forget a region, or all; see ``Regions``."""
        if name is None:
            self._known.clear()
        else:
            self._known.pop(name, None)
        for told in self.on_unregister:
            told()

    def _check_room(self, size: int) -> None:
        if len(self._known) >= MOST_REGIONS:
            raise Overloaded(
                "too many shared memory regions are registered",
                code="too_many_regions",
                expected=f"at most {MOST_REGIONS}",
                fix="unregister some that are not used any more",
            )
        taken = sum(region.size for region in self._known.values())
        if taken + size > self._most_bytes:
            raise Overloaded(
                "the registered shared memory regions are too large together",
                code="too_many_regions",
                expected=f"at most {self._most_bytes} bytes",
                given=f"{taken} registered and {size} more",
                fix="unregister some, or start the server with a larger --memory-mb",
            )


def label(name: str) -> str:
    """Return what errors call a region."""
    return f"region {name!r}"
