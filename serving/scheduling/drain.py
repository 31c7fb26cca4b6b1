"""How fast a waiting room empties: learned from the runs that end while somebody waits.

What is measured is the room's own pace, with all its slots and beside whatever else the machine
does, so that nothing has to be known of the model to say how long the last in the queue waits.
"""

from __future__ import annotations

_WEIGHT = 1 / 8
_SHORTEST_S, _LONGEST_S = 0.05, 30.0
_UNKNOWN_S = 1.0
_SHORTEST_SAID_S = 0.01


class Drain:
    """Learns seconds for each row; ``now`` is monotonic seconds."""

    def __init__(self) -> None:
        self._row_s = 0.0
        self._since: float | None = None

    def landed(self, rows: int, now: float, *, busy: bool) -> None:
        """A run of so many rows is over; ``busy`` says that others wait for its slot.

        Between two of these with somebody waiting, slots had no rest: the time is the runs' own.
        """
        if self._since is not None and rows:
            sample = (now - self._since) / rows
            self._row_s += (sample - self._row_s) * (_WEIGHT if self._row_s else 1.0)
        self._since = now if busy else None

    def wait_s(self, rows: int) -> float | None:
        """Return how long so many rows take to be run, None before anything is known."""
        return self._row_s * rows if self._row_s else None

    def text(self, rows: int) -> str:
        """Return ``about 1.2 s of waiting`` for a message.

        Nothing before it is known, and where nobody is to be waited for.
        """
        wait_s = self.wait_s(rows)
        if not wait_s:
            return ""
        if wait_s < _SHORTEST_SAID_S:
            return f"less than {_SHORTEST_SAID_S:g} s of waiting"
        shown = f"{wait_s:.2g} s" if wait_s < 10 else f"{wait_s:.0f} s"
        return f"about {shown} of waiting"

    def retry_after_s(self, rows: int) -> float:
        """Return when a caller who is refused should come again: once those who wait are gone."""
        wait_s = self.wait_s(rows)
        return _UNKNOWN_S if wait_s is None else min(max(wait_s, _SHORTEST_S), _LONGEST_S)
