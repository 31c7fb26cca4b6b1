"""Callers, slots and the batching policy in simulated time, with recorded run times."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field

from serving.scheduling.batcher import Limits, Waiting, decide
from serving.scheduling.company import LONGEST_S, Company
from serving.scheduling.cost import RUN_OVERHEAD_S, Cost
from serving.scheduling.occupancy import Occupancy

MOST = 32


@dataclass
class Story:
    """What happened: answers, waits of each, and the sizes of runs."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    sizes: Counter[int] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        return sorted(self.latencies)[int(len(self.latencies) * share)]


class Simulation:
    """One servable on ``slots`` workers; ``per_row`` maps rows of a run to seconds a row."""

    def __init__(self, per_row: dict[int, float], slots: int, seed: int = 1) -> None:
        self.per_row = per_row
        self.slots = slots
        self.random = random.Random(seed)
        self.now = 0.0
        self.busy: Counter[int] = Counter()
        self.free = set(range(slots))
        self.occupancy = [Occupancy() for _ in range(slots)]
        self.waiting: list[tuple[float, int]] = []  # when it came, whose it is
        self.cost, self.company = Cost(), Company()
        self._events: list[tuple[float, int, str, object]] = []
        self._serial = itertools.count()
        self._alarm = 0

    def closed(self, callers: int, seconds: float, think_s: float = 200e-6) -> Story:
        """Every caller asks again ``think_s`` after its answer, give or take a half."""
        for caller in range(callers):
            self._at(self.random.uniform(0, think_s), "arrive", caller)
        return self._run(seconds, lambda: think_s * self.random.uniform(0.5, 1.5))

    def open(self, rate: float, seconds: float) -> Story:
        """Requests come at random, ``rate`` a second."""
        at = 0.0
        while at < seconds:
            at += self.random.expovariate(rate)
            self._at(at, "arrive", -1)
        return self._run(seconds, None)

    def _run(self, seconds: float, think: object) -> Story:
        story = Story(seconds)
        while self._events:
            self.now, _, kind, what = heapq.heappop(self._events)
            if self.now > seconds:
                break
            if kind == "arrive":
                self.waiting.append((self.now, what))  # type: ignore[arg-type]
                self.company.arrived(self.now, self._inside())
            elif kind == "done":
                slot, rows, started = what  # type: ignore[misc]
                self.free.add(slot)
                self.occupancy[slot].ended(self.now)
                del self.busy[slot]
                self.company.answered(self.now)
                self.cost.ran(len(rows), self.now - started - RUN_OVERHEAD_S)
                for came, caller in rows:
                    story.latencies.append(self.now - came)
                    if callable(think):
                        self._at(self.now + think(), "arrive", caller)
            elif what != self._alarm:
                continue
            self._pump(story)
        return story

    def _pump(self, story: Story) -> None:
        self._alarm += 1
        while self.free and self.waiting:
            slot = self.free.pop()
            gain = min(self.cost.fixed_s, LONGEST_S)
            decision = decide(
                Waiting(
                    [1] * min(len(self.waiting), MOST), len(self.waiting),
                    self.now - self.waiting[0][0], False, sum(self.busy.values()),
                    self.cost.best_rows(MOST), self.company.expected(self._inside()),
                    self.now - self.company.quiet_since, self.company.patience_s(gain),
                    fixed_s=self.cost.fixed_s, row_s=self.cost.row_s,
                    busy=self.occupancy[slot].share(self.now),
                ),
                self.slots, Limits(MOST),
            )  # fmt: skip
            if decision.wait_s is not None:
                # A hair later, or rounding would have it ring just before its time for ever.
                self._at(self.now + decision.wait_s + 1e-9, "alarm", self._alarm)
                self.free.add(slot)
                return
            rows, self.waiting = (
                self.waiting[: decision.requests], self.waiting[decision.requests :],
            )  # fmt: skip
            self.busy[slot] = len(rows)
            self.occupancy[slot].began(self.now)
            story.sizes[len(rows)] += 1
            if decision.in_vain:
                self.company.in_vain(self._inside())
            elif not self.waiting:
                self.company.left(self.now, self._inside(), gain)
            took = self._seconds(len(rows)) + RUN_OVERHEAD_S
            self._at(self.now + took, "done", (slot, rows, self.now))

    def _inside(self) -> int:
        return len(self.waiting) + sum(self.busy.values())

    def _seconds(self, rows: int) -> float:
        below = max(size for size in self.per_row if size <= rows)
        above = min((size for size in self.per_row if size >= rows), default=below)
        share = 0.0 if above == below else (rows - below) / (above - below)
        row_s = self.per_row[below] + (self.per_row[above] - self.per_row[below]) * share
        return rows * row_s * self.random.uniform(0.98, 1.02)

    def _at(self, when: float, kind: str, what: object) -> None:
        heapq.heappush(self._events, (when, next(self._serial), kind, what))
