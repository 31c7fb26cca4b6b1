"""Machines made of formulas, for the search: a setting's true speed, drift, hiccups, noise."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from serving.tune.goal import Goal, Sample
from serving.tune.race import Step
from serving.tune.search import Search
from serving.tune.setting import Setting, Space
from serving.tune.tuner import Outcome, Tuner

Truth = Callable[[Setting], tuple[float, float]]
"""The rate and the p99 in ms that a setting really has."""


def batches(setting: Setting) -> tuple[float, float]:
    """A front end of 0.1 ms a request, and workers at 0.5 ms + 0.05 ms a row; 64 clients."""
    rows = min(setting.max_batch_size, 64 / setting.workers)
    run_ms = (0.5 + 0.05 * rows) * (1.0 if setting.workers == 1 else 1.7)
    rate = 1e3 / max(0.1 + 0.2 / rows, run_ms / rows / setting.workers)
    if (setting.max_queue_delay_ms or 0) >= 2:
        rate *= 0.8
    return rate, 64e3 / rate * 1.5


def flat(setting: Setting) -> tuple[float, float]:
    """Whatever is set, it is the same."""
    return 1000.0, 10.0


def server(request_us: float, run_us: float, row_us: float, knee: int = 64) -> Truth:
    """A server on two cores and 64 clients, who take 50 us a request of them themselves.

    The front end takes ``request_us`` a request and 100 us a run, a worker ``run_us`` a run and
    ``row_us`` a row, more for rows beyond the ``knee``. Delays that nothing needs cost a little.
    """

    def truth(setting: Setting) -> tuple[float, float]:
        rows = min(setting.max_batch_size, 64 / setting.workers)
        run = run_us + row_us * rows * max(1.0, rows / knee) ** 0.5
        front = request_us + 100 / rows
        waits = (setting.max_queue_delay_ms or 0) * 1e3 if setting.max_batch_size > rows else 0
        bounds = (front, (run + waits) / rows / setting.workers, (front + 50 + run / rows) / 2)
        rate = 1e6 / sum(us**6 for us in bounds) ** (1 / 6)
        return rate, 64e3 / rate * 1.4

    return truth


@dataclass
class Machine:
    """Measures settings of a truth; ``noise`` is the deviation of a rate's logarithm.

    ``drift`` is how much it gets slower and faster again over some 150 measurements; of ``hiccups``
    the share, measurements come out 14 to 55 % lower. ``count`` is how many there were.
    """

    truth: Truth
    noise: float = 0.03
    drift: float = 0.12
    seed: int = 0
    hiccups: float = 0.0
    count: int = 0
    draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self._phase = self.draw.uniform(0, 2 * math.pi)
        self._walk = 0.0

    def measure(self, setting: Setting) -> Sample:
        self.count += 1
        rate, p99_ms = self.truth(setting)
        self._walk = 0.98 * self._walk + self.draw.gauss(0, 0.2 * self.drift)
        slow = self.drift * math.sin(self.count / 25 + self._phase) + self._walk
        if self.draw.random() < self.hiccups:
            slow += self.draw.uniform(0.15, 0.8)
        off, off_p99 = self.draw.gauss(0, self.noise), self.draw.gauss(0, 2.5 * self.noise)
        return Sample(rate * math.exp(off - slow), p99_ms * math.exp(off_p99 + slow))

    def search(self, space: Space, start: Setting, goal: Goal = Goal(), cores: int = 2) -> Search:  # noqa: B008
        """Carry a search out to its end."""
        search = Search(space, start, goal, cores)
        carry_out(search.steps(), self.measure)
        return search

    def tune(self, space: Space, start: Setting, goal: Goal) -> Outcome:
        """Tune for 300 s, of which each measurement takes two."""
        search = Search(space, start, goal, 2)
        tuner = Tuner(search, goal, self.measure, lambda step: None, lambda: 2.0 * self.count)
        return tuner.run(300.0, later=4)


def carry_out(steps: Generator[Step, Sample, None], measure: Callable[[Setting], Sample]) -> None:
    """Measure what is asked for until the end."""
    try:
        step = next(steps)
        while True:
            step = steps.send(measure(step.setting))
    except StopIteration:
        return
