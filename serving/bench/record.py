"""What was seen in one run: latencies in a histogram, and errors by what they said."""

from __future__ import annotations

import collections

from hdrh.histogram import HdrHistogram

_LONGEST_US = 600_000_000
_DIGITS = 3
_KEPT_REASONS = 20


class Record:
    """Counts answers as they come. One thread only."""

    def __init__(self) -> None:
        self._latencies = HdrHistogram(1, _LONGEST_US, _DIGITS)
        self.answers = 0
        self.rows = 0
        self.wrong = 0
        self.late = 0
        self.errors: collections.Counter[str] = collections.Counter()

    def answered(self, latency_s: float, rows: int) -> None:
        """A right answer came."""
        self.answers += 1
        self.rows += rows
        self._latencies.record_value(min(_LONGEST_US, max(1, round(latency_s * 1e6))))

    def failed(self, reason: str) -> None:
        """An error came instead of an answer; of many kinds of them only the first are kept."""
        if reason not in self.errors and len(self.errors) >= _KEPT_REASONS:
            reason = "other errors"
        self.errors[reason] += 1

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the latencies of right answers, in ms; 0 if there are none."""
        return float(self._latencies.get_value_at_percentile(percent)) / 1e3

    @property
    def mean_ms(self) -> float:
        """The mean latency of right answers, in ms."""
        return float(self._latencies.get_mean_value()) / 1e3 if self.answers else 0.0

    @property
    def failures(self) -> int:
        """Errors and wrong answers."""
        return self.wrong + sum(self.errors.values())
