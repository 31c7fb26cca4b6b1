"""One point of a sweep, as it was measured, and the sweep's result as JSON and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from serving.bench.load import Load
from serving.bench.record import Record

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
BUSY = 0.9
"""A generator that was at work for this share of the time may have been the limit itself."""


@dataclass(frozen=True)
class Point:
    """What one load brought.

    ``rate`` are right answers a second and ``row_rate`` the rows in them; ``latency_ms`` by
    percentile. ``batches`` says how many runs of the server held how many rows, where it tells.
    ``generator`` is the share of one core that sending took.
    """

    load: Load
    seconds: float
    rate: float
    row_rate: float
    mean_ms: float
    latency_ms: Mapping[str, float]
    answers: int
    wrong: int
    unfinished: int
    errors: Mapping[str, int] = field(default_factory=dict)
    batches: Mapping[int, int] = field(default_factory=dict)
    generator: float = 0.0

    @property
    def failures(self) -> int:
        """Errors and wrong answers."""
        return self.wrong + sum(self.errors.values())

    @property
    def mean_batch(self) -> float:
        """Rows in a run on average; 0 where the server does not tell."""
        runs = sum(self.batches.values())
        return sum(rows * count for rows, count in self.batches.items()) / runs if runs else 0.0


def point(
    load: Load, record: Record, seconds: float, batches: Mapping[int, int], generator: float
) -> Point:
    """Return what a run's record comes to."""
    return Point(
        load=load,
        seconds=seconds,
        rate=record.answers / seconds,
        row_rate=record.rows / seconds,
        mean_ms=record.mean_ms,
        latency_ms={f"p{p:g}": record.percentile_ms(p) for p in PERCENTILES},
        answers=record.answers,
        wrong=record.wrong,
        unfinished=record.late,
        errors=dict(record.errors),
        batches=dict(batches),
        generator=generator,
    )


def batches_between(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, name: str
) -> dict[int, int]:
    """Return the runs by size that V2 statistics counted in between; empty where there are none."""
    if before is None or after is None:
        return {}
    first, last = _sizes(before, name), _sizes(after, name)
    counted = {size: count - first.get(size, 0) for size, count in last.items()}
    return {size: count for size, count in sorted(counted.items()) if count > 0}


def _sizes(document: Mapping[str, Any], name: str) -> dict[int, int]:
    sizes: dict[int, int] = {}
    for model in document.get("model_stats", ()):
        if model.get("name") == name:
            for batch in model.get("batch_stats", ()):
                size = int(batch["batch_size"])
                sizes[size] = sizes.get(size, 0) + int(batch["compute_infer"]["count"])
    return sizes


def to_json(points: Sequence[Point], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that was measured, ``about`` first."""
    return {
        **about,
        "points": [{**asdict(p), "mean_batch": round(p.mean_batch, 2)} for p in points],
    }


HEADER = ("LOAD", "REQ/S", "ROWS/S", "P50 MS", "P90", "P99", "P99.9", "ROWS/RUN", "ERRORS")


def row(p: Point) -> list[str]:
    """Return a point as a line of the table."""
    names = ("p50", "p90", "p99", "p99.9")
    latencies = [milliseconds(p.latency_ms[name]) if p.answers else "" for name in names]
    batch = f"{p.mean_batch:.1f}" if p.batches else ""
    return [
        p.load.text, _count(p.rate), _count(p.row_rate), *latencies, batch, str(p.failures)
    ]  # fmt: skip


def notes(points: Sequence[Point]) -> list[str]:
    """Return what a reader of the table must know."""
    found = []
    for p in points:
        found += [f"{p.load.text}: {count} x {reason}" for reason, count in p.errors.items()]
        if not p.answers and not p.failures:
            found.append(f"{p.load.text}: no answer within {p.seconds:g} s: measure for longer")
        if p.wrong:
            found.append(f"{p.load.text}: {p.wrong} answers differ from the first one")
        if p.load.rate and p.rate + p.failures / p.seconds < 0.95 * p.load.rate:
            found.append(f"{p.load.text}: the server did not keep up; latencies grow with time")
    busy = [p for p in points if p.generator > BUSY]
    if busy:
        loads = ", ".join(p.load.text for p in busy)
        found.append(
            f"{loads}: sending took {max(p.generator for p in busy):.0%} of a core: the generator "
            "may have been the limit, not the server"
        )
    return found


def milliseconds(value: float) -> str:
    """Return a latency for people: three digits, and no exponent however long it is."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
