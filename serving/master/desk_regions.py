"""The master's side of clients' regions that a front-end process knows."""

from __future__ import annotations

from collections.abc import Callable

from serving.frontends.shared_memory.region import Region
from serving.frontends.shared_memory.regions import Registry
from serving.gateway import afar
from serving.gateway.messages import Share, Unshare
from serving.request import Elsewhere


class RegionsDesk:
    """Owns what one front-end process was told of ``registry``. Event loop only.

    A region is held here until the process says that it does not use it any more: a request may
    have found it there before it was unregistered, and come here after that.
    """

    def __init__(self, registry: Registry, send: Callable[..., None]) -> None:
        self.registry = registry
        self._send = send
        self._shared: set[int] = set()
        self._held: dict[int, Region] = {}

    def tell(self) -> None:
        """Tell the process what has changed since it was told last."""
        known = {region.number: (name, region) for name, region in self.registry.status().items()}
        for number in sorted(self._shared - known.keys()):
            self._send(Unshare(number))
        for number in sorted(known.keys() - self._shared):
            name, region = known[number]
            self._held[number] = region
            self._send(Share(number, name, region.key, region.offset, region.size), region.fd)
        self._shared = set(known)

    def unused(self, number: int) -> None:
        """Let go of a region; raises ValueError for one that the process must not let go of."""
        if number in self._shared or self._held.pop(number, None) is None:
            raise ValueError(f"region {number} is not one that was unshared")

    def elsewhere(self, data: bytes) -> Elsewhere:
        """Return where tensors of a claim lie; raises ValueError."""
        return afar.decode(data, self._find)

    def let_go(self) -> None:
        """The process is gone."""
        self._shared.clear()
        self._held.clear()

    def _find(self, number: int) -> Region:
        region = self._held.get(number)
        if region is None:
            raise ValueError(f"region {number} is not shared with it")
        return region
