"""For what part of the time a slot has lately been busy."""

from __future__ import annotations

import math

_WINDOW_S = 0.25
_WINDOW_RUNS = 10


class Occupancy:
    """An average over the last quarter of a second, or ten runs if those are longer."""

    __slots__ = ("_at", "_busy", "_share", "_window_s")

    def __init__(self) -> None:
        self._share = 0.0
        self._busy = False
        self._at = 0.0
        self._window_s = _WINDOW_S

    def began(self, now: float) -> None:
        """A run was sent; ``now`` is monotonic seconds."""
        self._share, self._busy, self._at = self.share(now), True, now

    def ended(self, now: float) -> None:
        """That run is over."""
        self._window_s = max(_WINDOW_S, _WINDOW_RUNS * (now - self._at))
        self._share, self._busy, self._at = self.share(now), False, now

    def share(self, now: float) -> float:
        """Return the busy part of the time, 0 to 1."""
        weight = -math.expm1((self._at - now) / self._window_s)
        return self._share + (self._busy - self._share) * weight
