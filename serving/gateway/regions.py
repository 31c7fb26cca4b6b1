"""The regions of clients as a front-end process has them: a copy of the master's list.

Each comes with a descriptor of its object, so that small tensors are read and written here. The
master keeps its own of each until nothing here can name it any more.
"""

from __future__ import annotations

import collections
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from serving.frontends.shared_memory.region import Region
from serving.frontends.shared_memory.regions import Regions, label
from serving.gateway.messages import Message, Share, Unshare, Unused

Ask = Callable[[str, dict[str, Any]], Awaitable[Any]]


class SharedRegions(Regions):
    """Implements ``Regions`` by asking the master. Event loop only, but for the end of a region."""

    def __init__(self, request_bytes: int, ask: Ask, send: Callable[[Message], None]) -> None:
        super().__init__(request_bytes)
        self._ask = ask
        self._send = send
        self._names: dict[int, str] = {}
        self._unused: collections.deque[int] = collections.deque()

    async def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Have the master add a region; see ``Regions``."""
        await self._ask("register", {"name": name, "key": key, "offset": offset, "size": size})

    async def unregister(self, name: str | None = None) -> None:
        """Have the master forget a region, or all; see ``Regions``."""
        await self._ask("unregister", {"name": name})

    def shared(self, told: Share, fd: int) -> None:
        """Take over a region; the descriptor is its own from here on."""
        region = Region(label(told.name), told.key, told.offset, told.size, fd, told.region)
        # Whoever holds it last may be a codec's thread.
        weakref.finalize(region, self._unused.append, told.region).atexit = False
        self._names[told.region] = told.name
        self._known[told.name] = region

    def unshared(self, told: Unshare) -> None:
        """Forget a region; requests that have found it go on."""
        del self._known[self._names.pop(told.region)]
        for forget in self.on_unregister:
            forget()
        self.sweep()

    def sweep(self) -> None:
        """Tell the master which regions nothing here holds any more."""
        while self._unused:
            self._send(Unused(self._unused.popleft()))
