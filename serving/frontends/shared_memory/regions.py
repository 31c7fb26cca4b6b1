"""The regions that clients have registered, by name; one list for all front ends.

Source: Triton's system shared memory extension. A name can be given once; it is free again once
it is unregistered.
"""

from __future__ import annotations

from collections.abc import Callable

from serving.errors import InvalidRequest, NotFound, Overloaded
from serving.frontends.shared_memory.region import Region

MOST_REGIONS = 1024
LONGEST_NAME = 255
LARGEST = 2**63 - 1
"""Offsets and sizes of files end here."""


class Regions:
    """Made by the master when clients may use shared memory; changed on the event loop only.

    ``most_bytes`` bounds all regions together: an open object keeps its memory, even when its
    client has removed the name. ``request_bytes`` is how much one request may read. Whoever keeps
    what was looked up is to forget it when ``on_unregister`` calls him.
    """

    def __init__(self, most_bytes: int, request_bytes: int) -> None:
        self.request_bytes = request_bytes
        self._most_bytes = most_bytes
        self._known: dict[str, Region] = {}
        self.on_unregister: list[Callable[[], None]] = []

    def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Add a region. Raises InvalidRequest, NotFound for the object, Overloaded."""
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
        self._known[name] = Region.open(f"region {name!r}", key, offset, size, "key")

    def unregister(self, name: str | None = None) -> None:
        """Forget a region, or all; one that is not known is no error. Runs under way go on."""
        if name is None:
            self._known.clear()
        else:
            self._known.pop(name, None)
        for told in self.on_unregister:
            told()

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
