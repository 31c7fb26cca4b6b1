"""What workers are to have loaded, by model and device: read anew for every worker that starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from serving.channel.messages import Load
from serving.devices import Device, Where


@dataclass(frozen=True)
class Ordered:
    """How a model is loaded, and within how many seconds."""

    load: Load
    timeout_s: float


class OrderBook:
    """Orders by model; each holds for some devices. Event loop only."""

    def __init__(self) -> None:
        self._orders: dict[int, dict[Where, Ordered]] = {}

    def __contains__(self, model: int) -> bool:
        """Return whether a model is to be loaded anywhere."""
        return model in self._orders

    def put(self, where: Where, ordered: Ordered) -> None:
        """Order a model for some devices; an order for the same devices is replaced."""
        self._orders.setdefault(ordered.load.model, {})[where] = ordered

    def take_back(self, model: int, where: Where | None = None) -> None:
        """Forget a model, or what was ordered of it for some devices."""
        mine = self._orders.get(model, {})
        if where is not None:
            mine.pop(where, None)
        if where is None or not mine:
            self._orders.pop(model, None)

    def of(self, model: int, device: Device) -> Ordered | None:
        """Return how a model is loaded on a device, None where it is not meant to be there."""
        for where, ordered in self._orders.get(model, {}).items():
            if where.holds(device):
                return ordered
        return None

    def for_device(self, device: Device) -> Iterator[Ordered]:
        """Yield all that a worker on a device is to have."""
        for model in self._orders:
            ordered = self.of(model, device)
            if ordered is not None:
                yield ordered
