"""Watches the memory of a running server, all its processes together, and draws it over time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import Running


@dataclass(frozen=True)
class Moment:
    """PSS in MiB at a time, seconds since the watch began."""

    at_s: float
    master: float
    others: float
    processes: int

    @property
    def total(self) -> float:
        """Of all processes."""
        return self.master + self.others


@dataclass
class Watch:
    """Looks every ``every_s`` seconds; ``events`` are what happened meanwhile, for the drawing."""

    running: Running
    every_s: float = 1.0
    moments: list[Moment] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def note(self, what: str) -> None:
        """Something happened now."""
        self.events.append((time.monotonic() - self.began, what))

    def look(self) -> Moment:
        """Look once."""
        found = self.running.memory()
        master = sum(mb for role, _, mb in found if role == "master")
        others = sum(mb for role, _, mb in found if role != "master")
        moment = Moment(time.monotonic() - self.began, master, others, len(found))
        self.moments.append(moment)
        return moment

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[Watch]:
        """Look all the while the block runs."""
        looking = asyncio.create_task(self._for_ever())
        try:
            yield self
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _for_ever(self) -> None:
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(self.every_s)

    def thirds(self) -> Iterator[tuple[str, float]]:
        """Yield the mean of the first, the middle and the last third: flat is alike."""
        size = max(1, len(self.moments) // 3)
        for name, part in (
            ("first", self.moments[:size]),
            ("middle", self.moments[size:-size] or self.moments[:size]),
            ("last", self.moments[-size:]),
        ):
            yield name, sum(m.total for m in part) / len(part)


def draw(watch: Watch, title: str, file: Path) -> None:
    """Draw memory over time, events as marks, into an SVG or PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    times = [m.at_s for m in watch.moments]
    axes.plot(times, [m.total for m in watch.moments], label="all processes")
    axes.plot(times, [m.master for m in watch.moments], label="master")
    for what, colour in zip(sorted({what for _, what in watch.events}), "rgkm", strict=False):
        marks = [at for at, event in watch.events if event == what]
        axes.plot(marks, [0] * len(marks), colour + "|", markersize=12, label=what)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds")
    axes.set_ylabel("PSS in MiB")
    axes.set_title(title)
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
    pyplot.close(figure)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of all do not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")
