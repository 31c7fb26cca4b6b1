"""Whether the event loop is still bringing requests in: then sending a run at once is too soon.

A front end that is as fast as it can be hands requests over one by one, and a run for each would
take more of the same core than the request did. So a run that has room lingers from turn to turn
of the loop while those turns have work to do, and goes when the loop has come to rest. Where
lingering has lately brought nobody it is only tried now and then: an idle loop costs a lone
caller nothing.
"""

from __future__ import annotations

LONGEST_S = 2e-3

_REST_S = 20e-6
_IDLE_TURN_S = 5e-6
"""Between two pumps an empty turn of the loop takes 1 µs; one that reads a socket, ten."""

_TRIED_EVERY = (8, 32)
"""While it is of no use: at first, and in the end; it doubles with each that was in vain."""

_WEIGHT = 1 / 8


class Pace:
    """One waiting room's sense of the loop; asked once a turn."""

    def __init__(self) -> None:
        self._right = 0.0
        self._asked = 0
        self._every = _TRIED_EVERY[0]
        self._rows = 0
        self._since: float | None = None
        self._busy_until = 0.0

    def lingers(self, now: float, turn_s: float, rows: int) -> bool:
        """Return whether a run of the ``rows`` that wait now should wait for the next turn.

        ``now`` is monotonic; ``turn_s`` is what the loop did since the last pump ended.
        """
        if self._since is None:
            self._asked += 1
            if self._right <= 0.5 and self._asked % self._every:
                return False
            self._since = self._busy_until = now
            self._rows = rows
            return True
        if turn_s > _IDLE_TURN_S:
            self._busy_until = now
        return now - self._busy_until < _REST_S and now - self._since < LONGEST_S

    def sent(self, rows: int) -> None:
        """A run goes; ``rows`` waited when it was decided on."""
        if self._since is not None:
            right = rows > self._rows
            self._right += (right - self._right) * _WEIGHT
            self._every = _TRIED_EVERY[0] if right else min(2 * self._every, _TRIED_EVERY[1])
            self._since = None
