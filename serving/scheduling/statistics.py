"""The counters of one line, advanced where things happen and read by whoever asks.

Each run costs one call here and each answered request another, both a fraction of a
microsecond: everything that can be derived is derived when it is read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from serving.channel.messages import Done
from serving.errors import ServingError, kind
from serving.statistics import LATENCY_BOUNDS_S, Runs, Unanswered


@dataclass(slots=True)
class Size:
    """The runs of one size that went well, and their times."""

    count: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0


@dataclass(slots=True)
class LineStatistics:
    """What has happened in a line since it was opened; ``VersionStatistics`` says what is meant.

    ``requests`` were taken in, ``rows`` are those of answered requests; times in seconds are on
    the monotonic clock.
    """

    requests: int = 0
    rows: int = 0
    success_s: float = 0.0
    queue_s: float = 0.0
    fail_s: float = 0.0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    failed_runs: int = 0
    latest_s: float = 0.0
    latencies: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))
    sizes: dict[int, Size] = field(default_factory=dict)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)

    # -- counting ------------------------------------------------------------------------------

    def ran(self, rows: int, done: Done, now: float) -> None:
        """A run of so many rows went well."""
        size = self.sizes.get(rows)
        if size is None:
            size = self.sizes[rows] = Size()
        size.count += 1
        size.input_ns += done.input_ns
        size.infer_ns += done.infer_ns
        size.output_ns += done.output_ns
        self.latest_s = now

    def answered(
        self, rows: int, took_s: float, waited_s: float, done: Done, requests: int = 1
    ) -> None:
        """So many requests were answered, alike; ``done`` is the run that finished them."""
        self.rows += rows
        self.success_s += took_s * requests
        self.queue_s += waited_s * requests
        self.latencies[bisect_left(LATENCY_BOUNDS_S, took_s)] += requests
        self.input_ns += done.input_ns * requests
        self.infer_ns += done.infer_ns * requests
        self.output_ns += done.output_ns * requests

    def spent(self, done: Done) -> None:
        """An answered request took part in this run."""
        self.input_ns += done.input_ns
        self.infer_ns += done.infer_ns
        self.output_ns += done.output_ns

    def fail(self, error: ServingError, took_s: float, requests: int = 1) -> None:
        """Requests that were taken in ended in an error."""
        self.failed[kind(error), error.code] += requests
        self.fail_s += took_s * requests

    def refuse(self, error: ServingError) -> None:
        """A request was not taken in."""
        self.refused[kind(error), error.code] += 1

    # -- reading -------------------------------------------------------------------------------

    @property
    def failures(self) -> int:
        """Requests that were taken in and ended in an error."""
        return self.failed.total()

    @property
    def batch_sizes(self) -> Counter[int]:
        """How many runs of each number of rows went well."""
        return Counter({rows: size.count for rows, size in self.sizes.items()})

    @property
    def runs(self) -> int:
        """Runs that went well."""
        return sum(size.count for size in self.sizes.values())

    def by_size(self, unit: int = 1) -> tuple[Runs, ...]:
        """Return the runs by size, smallest first; so many rows count as one."""
        return tuple(
            Runs(rows // unit, size.count, size.input_ns, size.infer_ns, size.output_ns)
            for rows, size in sorted(self.sizes.items())
        )


def unanswered(counts: Counter[tuple[str, str]]) -> tuple[Unanswered, ...]:
    """Return counters of errors in order of kind and code."""
    return tuple(Unanswered(kind, code, n) for (kind, code), n in sorted(counts.items()))
