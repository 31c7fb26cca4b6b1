"""Machines made of formulas, for the search: a setting's true speed, drift, and seeded noise."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TypeVar, cast

from serving.tune.goal import Goal, Sample
from serving.tune.search import Search, Step
from serving.tune.setting import Setting, Space

T = TypeVar("T")
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


@dataclass
class Machine:
    """Measures settings of a truth; ``noise`` is the deviation of a rate's logarithm."""

    truth: Truth
    noise: float = 0.03
    drift: float = 0.2
    seed: int = 0
    count: int = 0
    draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)

    def measure(self, setting: Setting) -> Sample:
        self.count += 1
        rate, p99_ms = self.truth(setting)
        slow = 1 + self.drift * math.sin(self.count / 15)
        off, off_p99 = self.draw.gauss(0, self.noise), self.draw.gauss(0, 2 * self.noise)
        return Sample(rate / slow * math.exp(off), p99_ms * slow * math.exp(off_p99))

    def search(self, space: Space, start: Setting, goal: Goal = Goal(), cores: int = 2) -> Search:  # noqa: B008
        """Carry a search out to its end."""
        search = Search(space, start, goal, cores)
        carry_out(search.steps(), self.measure)
        return search


def carry_out(steps: Generator[Step, Sample, T], measure: Callable[[Setting], Sample]) -> T:
    """Measure what is asked for until the end; returns what the steps return."""
    try:
        step = next(steps)
        while True:
            step = steps.send(measure(step.setting))
    except StopIteration as end:
        return cast("T", end.value)
