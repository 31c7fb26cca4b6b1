"""Whether a version keeps ending its workers: counted since it last did something right."""

from __future__ import annotations

import collections

LOOP = 5
"""So many crashes in a window, and nothing that went well in between, are a loop."""
WINDOW_S = 60.0


class CrashLog:
    """The latest crashes by model."""

    def __init__(self) -> None:
        self._crashes: dict[int, collections.deque[float]] = {}

    def crashed(self, model: int, now: float, well_s: float) -> bool:
        """Note a crash; returns whether it is a loop.

        ``well_s`` is when a run of the model last went well; all times are monotonic.
        """
        times = self._crashes.setdefault(model, collections.deque(maxlen=LOOP))
        times.append(now)
        since = max(now - WINDOW_S, well_s)
        return sum(time > since for time in times) >= LOOP

    def forget(self, model: int) -> None:
        """The model is gone."""
        self._crashes.pop(model, None)
