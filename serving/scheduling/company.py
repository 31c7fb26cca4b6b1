"""Whether it pays to wait a moment for more requests: learned from when they came before.

Callers that wait for an answer before they ask again come back in a burst after each run. Sending
the first of them at once, alone, costs a run for each; a lone caller or callers at random must
not be made to wait for nobody. So a wait is only hoped for while there are callers who have been
answered and are not back yet, and while hoping has lately been right.
"""

from __future__ import annotations

LONGEST_S = 2e-3

_WEIGHT = 1 / 8
_LIKELY = 0.75
"""Callers who come back do so nearly always; at random every other one may come in time, too."""
_GAPS = 4
_LEAST_S = 50e-6


class Company:
    """Learns from arrivals and departures of rows; ``now`` is monotonic seconds.

    ``peak`` is the most rows that were inside since company was last waited for in vain.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._right = 0.0
        self._gap_s = 0.0
        self._watched_from: float | None = None
        self._patience_s = 0.0
        self.quiet_since = 0.0

    def arrived(self, now: float, rows_inside: int) -> None:
        """A request came; ``rows_inside`` wait or run now, its own included."""
        if self._watched_from is not None:
            self._learn(now - self._watched_from < self._patience_s)
        gap_s = now - self.quiet_since
        if gap_s < LONGEST_S:
            self._gap_s += (gap_s - self._gap_s) * _WEIGHT
        self.quiet_since = now
        self.peak = max(self.peak, rows_inside)

    def answered(self, now: float) -> None:
        """Callers were answered: from here on they may be on their way back."""
        self.quiet_since = now

    def left(self, now: float, rows_inside: int, patience_s: float) -> None:
        """A run was sent and nothing is left: note whether the next one would have come in time."""
        if rows_inside < self.peak and self._watched_from is None:
            self._watched_from = now
            self._patience_s = min(patience_s, LONGEST_S)

    def in_vain(self, rows_inside: int) -> None:
        """A wait ended with nobody having come."""
        self._learn(False)
        self.peak = rows_inside

    def patience_s(self, gain_s: float) -> float:
        """Return how long to wait for the next arrival, where joining saves ``gain_s``.

        It counts from the last arrival or answer. Longer than those that come usually take would
        be in vain.
        """
        return min(gain_s, LONGEST_S, _LEAST_S + _GAPS * self._gap_s)

    def expected(self, rows_inside: int) -> int:
        """Return how many rows are likely to come within a moment."""
        return max(0, self.peak - rows_inside) if self._right > _LIKELY else 0

    def _learn(self, right: bool) -> None:
        self._right += (right - self._right) * _WEIGHT
        self._watched_from = None
