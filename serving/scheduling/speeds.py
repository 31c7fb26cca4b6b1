"""How fast each kind of device is at one model, learned from its runs: who is asked, for how much.

A CPU beside a GPU may take fifty times as long for a row. It helps while the GPU is busy, but a
lone request should not go there, and a batch as large as the GPU's would keep its callers waiting.
"""

from __future__ import annotations

_WEIGHT = 1 / 8
_TRIES = 3
"""Runs before a kind is judged, by the best of them: the first may wait for what is made once."""

_FORGET = 1 / 500
"""The part that a run elsewhere takes of what is known of a kind: wrong verdicts are found out.

One that is ten times as slow is tried again after a thousand runs, which costs them one percent.
"""


class Speeds:
    """Seconds that a row takes, by kind of device; the latest runs count most."""

    def __init__(self) -> None:
        self._row_s: dict[str, float] = {}
        self._tries: dict[str, int] = {}
        self._trust: dict[str, float] = {}

    def ran(self, kind: str, rows: int, seconds: float) -> None:
        """Learn from a run."""
        if rows <= 0:
            return
        row_s = seconds / rows
        known = self._row_s.get(kind, row_s)
        tries = self._tries[kind] = self._tries.get(kind, 0) + 1
        judged = tries > _TRIES
        self._row_s[kind] = known + (row_s - known) * _WEIGHT if judged else min(known, row_s)
        for other in self._trust:
            self._trust[other] *= 1 - _FORGET
        self._trust[kind] = 1.0

    def row_s(self, kind: str) -> float:
        """Return what a row may take there; 0 where too little ran yet, so that it is tried."""
        if self._tries.get(kind, 0) < _TRIES:
            return 0.0
        return self._row_s[kind] * self._trust[kind]

    def share(self, kind: str, most: int, first: int) -> int:
        """Return the most rows for a run there, of ``most`` that the fastest kind may have.

        It is to take no longer than that one would, but the ``first`` request, if it is not larger
        than a batch, is not cut for it.
        """
        mine = self._row_s.get(kind, 0.0)
        if not mine:
            return most
        best = min(self._row_s.values())
        uncut = first if first <= most else 1
        return min(most, max(uncut, round(most * best / mine)))
