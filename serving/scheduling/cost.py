"""What a run of n rows costs, learned from the runs themselves: how large a batch pays.

What was learned while the machine was busy with something else, or the engine was cold, is wrong
later. So sizes that are not used any more are tried again, at first soon and then ever more seldom;
and one that gains nothing over the next smaller does not hide those behind it: an engine whose
threads are of no use to small batches does no better with two rows than with one, but with sixteen.
"""

from __future__ import annotations

import collections

RUN_OVERHEAD_S = 150e-6
"""What a run costs beside the engine: sending, waking the worker, answering (measured: 100 µs
of CPU on the master's side and the worker's, more while they fight for a core)."""

_KNOWN_RUNS = 4
_MEMORY_RUNS = 16
_LASTS_S = (2.0, 128.0)
"""After so much more of running what is known of a size is tried again: at first, in the end."""
_COUNTED_S = 1 / 64
"""No run counts for more of that, so that the four that it takes to know a size are but few."""
_EAGER_RUNS = 64
_JUDGED_EVERY = 16
_MOST_SPREAD = 2
_WORTH = 1.03
"""A batch twice as large has to be this much cheaper a row, or it only makes everyone wait."""
_HOPELESS = 1.1
"""Behind a size whose rows are so much dearer than the cheapest no better ones are looked for."""
_LONGEST_TRIED_S = 0.1
"""Nor are longer runs tried: nothing that a run costs beside its rows is worth sharing there."""


class _Size:
    """The latest runs of one size class: what a row of them costs, and how many they mostly had.

    A short run whose worker lost its core for a moment takes many times as long: it counts as
    twice the one in the middle. To leave such runs out altogether would flatter short runs, of
    which few are hit.
    """

    __slots__ = ("_lasts_s", "_latest", "_typical", "old", "runs", "until_s")

    def __init__(self) -> None:
        self.runs = 0
        self.old = False
        self.until_s = 0.0
        self._lasts_s = _LASTS_S[0]
        self._latest: collections.deque[tuple[float, int]] = collections.deque(maxlen=_MEMORY_RUNS)
        self._typical: tuple[float, int] | None = None

    def add(self, rows: int, seconds: float, now_s: float) -> None:
        if self.old:
            self.old = False
            self.runs = 0
            self._latest.clear()
        self.runs += 1
        self.until_s = now_s + self._lasts_s
        self._latest.append(((seconds + RUN_OVERHEAD_S) / rows, rows))
        self._typical = None

    def age(self) -> None:
        """Nothing was heard of it for as long as it lasts: next time it lasts longer."""
        self.old = True
        self._lasts_s = min(2 * self._lasts_s, _LASTS_S[1])

    def typical(self) -> tuple[float, int]:
        """Return seconds a row, with what a run costs beside the engine, and rows."""
        if self._typical is None:
            known = sorted(self._latest)
            middle, rows = known[(len(known) - 1) // 2]
            whole = sum([min(per_row, _MOST_SPREAD * middle) for per_row, _ in known])
            self._typical = whole / len(known), rows
        return self._typical

    @property
    def per_row(self) -> float:
        return self.typical()[0]

    @property
    def rows(self) -> int:
        return self.typical()[1]

    @property
    def seconds(self) -> float:
        per_row, rows = self.typical()
        return per_row * rows - RUN_OVERHEAD_S


class Cost:
    """Run times by size class (1, 2, 3-4, 5-8, … rows) of requests of one look."""

    def __init__(self) -> None:
        self._sizes: dict[int, _Size] = {}
        self._runs = 0
        self._ran_s = 0.0
        self._best = 0
        self._smaller = 0
        self._larger = 0
        self._fixed_s = 0.0
        self._row_s = 0.0

    def ran(self, rows: int, seconds: float) -> None:
        """Learn from a run."""
        if rows < 1:
            return
        key = (rows - 1).bit_length()
        size = self._sizes.get(key)
        if size is None:
            size = self._sizes[key] = _Size()
        self._runs += 1
        self._ran_s += min(seconds + RUN_OVERHEAD_S, _COUNTED_S)
        size.add(rows, seconds, self._ran_s)
        if self._runs < _EAGER_RUNS or self._runs % _JUDGED_EVERY == 0:
            self._judge()
            self._fixed_s, self._row_s = self._fit()

    def best_rows(self, limit: int, waiting: int, least: int = 1) -> int:
        """Return the rows beyond which a larger batch gains nothing, at most ``limit``.

        What has not been tried is tried, one step at a time: a larger size where so many rows are
        ``waiting``, a smaller one where a request has no more, of which each has the ``least``.
        """
        if least <= self._smaller:
            return min(limit, self._smaller)
        if 0 < self._larger < 2 * min(limit, waiting):
            return min(limit, self._larger)
        return min(limit, self._best) if self._best else limit

    @property
    def fixed_s(self) -> float:
        """Seconds that a run costs however few its rows are: what joining two runs saves."""
        return self._fixed_s + RUN_OVERHEAD_S

    @property
    def row_s(self) -> float:
        """Seconds that each row adds to a run; 0 while runs of one size only are known."""
        return self._row_s

    def _known(self) -> dict[int, _Size]:
        return {k: s for k, s in sorted(self._sizes.items()) if s.runs >= _KNOWN_RUNS}

    def _judge(self) -> None:
        for size in self._sizes.values():
            if not size.old and size.until_s < self._ran_s:
                size.age()
        known = {k: size for k, size in self._known().items() if not size.old}
        if not known:
            self._best = self._smaller = self._larger = 0
            return
        cheapest = min(size.per_row for size in known.values())
        best = next(k for k, size in known.items() if size.per_row <= cheapest * _WORTH)
        self._best = 1 << best
        # Under load all runs are large, and may be too large.
        self._smaller = 1 << (best - 1) if best and best - 1 not in known else 0
        self._larger, larger = 0, best + 1
        while larger in known and known[larger].per_row < cheapest * _HOPELESS:
            larger += 1
        short = larger == best + 1 or cheapest * (1 << larger) < _LONGEST_TRIED_S
        if larger not in known and short:
            self._larger = 1 << larger

    def _fit(self) -> tuple[float, float]:
        known = list(self._known().values())
        if not known:
            return 0.0, 0.0
        small, large = known[0], known[-1]
        if large.rows <= small.rows:
            return small.seconds / 4, 0.0  # nothing to compare with yet
        slope = max(0.0, (large.seconds - small.seconds) / (large.rows - small.rows))
        return min(max(0.0, small.seconds - slope * small.rows), small.seconds), slope
