"""Bounds what costs a client nothing and a server something.

A bucket fills with time, and with the work that a client lets be done for it: gRPC clients measure
the line with a PING for about every round trip, as long as answers come.
"""

from __future__ import annotations

from collections.abc import Callable


class Allowance:
    """Takes ``burst`` at once, and ``per_second`` and what was ``earned`` in the long run.

    One for a connection and kind; ``earned`` returns a number that only grows.
    """

    __slots__ = ("_burst", "_clock", "_earned", "_filled", "_left", "_per_second", "_spent")

    def __init__(
        self,
        burst: int,
        per_second: float,
        clock: Callable[[], float],
        earned: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._left = float(burst)
        self._filled = clock()
        self._earned = earned
        self._spent = 0.0

    def take(self) -> bool:
        """Return whether one more is within bounds."""
        if self._left < 1:
            now, earned = self._clock(), self._earned()
            gained = (now - self._filled) * self._per_second + earned - self._spent
            self._left = min(self._burst, self._left + gained)
            self._filled, self._spent = now, earned
            if self._left < 1:
                return False
        self._left -= 1
        return True
