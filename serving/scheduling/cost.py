"""What a run of n rows costs, learned from the runs themselves: how large a batch pays."""

from __future__ import annotations

RUN_OVERHEAD_S = 150e-6
"""What a run costs beside the engine: sending, waking the worker, answering (measured: 100 µs
of CPU on the master's side and the worker's, more while they fight for a core)."""

_KNOWN_RUNS = 4
_MEMORY_RUNS = 16
_FORGET_AFTER_RUNS = 512
_EAGER_RUNS = 64
_JUDGED_EVERY = 16
_WORTH = 1.03
"""A batch twice as large has to be this much cheaper a row, or it only makes everyone wait."""


class _Size:
    """The runs of one size class: their mean rows and seconds, the latest counting most."""

    __slots__ = ("rows", "runs", "seconds")

    def __init__(self) -> None:
        self.runs = 0
        self.rows = 0.0
        self.seconds = 0.0

    def add(self, rows: int, seconds: float) -> None:
        self.runs += 1
        weight = 1.0 / min(self.runs, _MEMORY_RUNS)
        self.rows += (rows - self.rows) * weight
        self.seconds += (seconds - self.seconds) * weight

    @property
    def per_row(self) -> float:
        return (self.seconds + RUN_OVERHEAD_S) / self.rows


class Cost:
    """Run times by size class (1, 2, 3-4, 5-8, … rows) of requests of one look."""

    def __init__(self) -> None:
        self._sizes: dict[int, _Size] = {}
        self._runs = 0
        self._best = 0
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
        size.add(rows, seconds)
        self._runs += 1
        if self._runs % _FORGET_AFTER_RUNS == 0:
            self._forget()
        if self._runs < _EAGER_RUNS or self._runs % _JUDGED_EVERY == 0:
            self._best = self._judge()
            self._fixed_s, self._row_s = self._fit()

    def best_rows(self, limit: int) -> int:
        """Return the rows beyond which a larger batch gains nothing, at most ``limit``.

        What has not been tried is tried, one step at a time.
        """
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

    def _judge(self) -> int:
        known = self._known()
        if not known:
            return 0
        cheapest = min(size.per_row for size in known.values())
        best = next(k for k, size in known.items() if size.per_row <= cheapest * _WORTH)
        if best and best - 1 not in known:
            return 1 << (best - 1)  # try it: under load all runs are large, and may be too large
        return 1 << (best + 1 if best == max(known) else best)

    def _fit(self) -> tuple[float, float]:
        known = list(self._known().values())
        if not known:
            return 0.0, 0.0
        small, large = known[0], known[-1]
        if large.rows <= small.rows:
            return small.seconds / 4, 0.0  # nothing to compare with yet
        slope = max(0.0, (large.seconds - small.seconds) / (large.rows - small.rows))
        return min(max(0.0, small.seconds - slope * small.rows), small.seconds), slope

    def _forget(self) -> None:
        """Let the sizes that are not used any more be tried again: they were learned long ago."""
        for key, size in self._sizes.items():
            if 1 << key > self._best:
                size.runs = 0
