"""What is better: measurements held against each other, with the noise that they have; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

LEAST_RATE_GAIN = 0.05
LEAST_LATENCY_GAIN = 0.10
"""What a change must bring at least: less is not worth a line in a settings file."""

MOST_ROUNDS = 5
LEAST_ROUNDS = 3
_CERTAIN = 2.5
_MEDIAN = 1.25
"""The median of several values strays so much more than their mean (normal noise)."""

_DEVIATION = 1.4826
"""The standard deviation of normal noise, in medians of its absolute values."""

_FAILURES = 1e-3
_LIMIT = 3.0


@dataclass(frozen=True)
class Sample:
    """One measurement: right answers a second, their 99th percentile, the share of other answers.

    ``problem`` says why there is none: the setting could not be loaded.
    """

    rate: float
    p99_ms: float
    failed: float = 0.0
    problem: str = ""

    @property
    def sound(self) -> bool:
        """Whether it counts: answers came, and hardly any was an error or wrong."""
        return not self.problem and self.rate > 0 and self.failed <= _FAILURES


@dataclass(frozen=True)
class Goal:
    """Most answers a second from a closed loop; the shortest p99 where the rate is given.

    Either with a p99 of at most ``target_ms``, if one is asked for: what misses it is only ever
    better by a shorter p99.
    """

    target_ms: float | None = None
    fixed_rate: bool = False

    def meets(self, samples: Sequence[Sample]) -> bool:
        """Return whether a setting, by the median of its measurements, does what is asked."""
        if not samples or sum(s.sound for s in samples) * 2 <= len(samples):
            return False
        return self.target_ms is None or median(s.p99_ms for s in samples) <= self.target_ms

    def compares_latency(self, *sides: Sequence[Sample]) -> bool:
        """Return whether p99 decides between settings, and not the rate."""
        return self.fixed_rate or not all(map(self.meets, sides))

    def gains(self, new: Sequence[Sample], old: Sequence[Sample]) -> list[float]:
        """Return, round by round, the logarithm of how much better ``new`` was than ``old``."""
        latency = self.compares_latency(new, old)
        return [_gain(a, b, latency) for a, b in zip(new, old, strict=False)]


def _gain(new: Sample, old: Sample, latency: bool) -> float:
    if not (new.sound and old.sound):
        return _LIMIT * (new.sound - old.sound)
    gain = math.log(old.p99_ms / new.p99_ms) if latency else math.log(new.rate / old.rate)
    return max(-_LIMIT, min(_LIMIT, gain))


def noise(series: Iterable[Sequence[Sample]], latency: bool) -> float:
    """Return the standard deviation of a gain that means nothing, 0 if nothing tells.

    ``series`` are the measurements of each setting in their order. It comes from neighbours, so
    that a slow drift of the machine, which rounds cancel, does not count as noise; and from the
    median of what they differ by, so that a hiccup does not either.
    """
    steps = [
        abs(_gain(later, earlier, latency))
        for samples in series
        for earlier, later in pairwise(samples)
        if earlier.sound and later.sound
    ]
    return median(steps) * _DEVIATION if steps else 0.0


def margin(rounds: int, noise: float, latency: bool) -> float:
    """Return the median gain over so many rounds that noise alone does not bring."""
    least = math.log1p(LEAST_LATENCY_GAIN if latency else LEAST_RATE_GAIN)
    return max(least, _CERTAIN * _MEDIAN * noise / math.sqrt(rounds))


def judge(goal: Goal, new: Sequence[Sample], old: Sequence[Sample], noise: float) -> bool | None:
    """Return whether ``new`` is better than ``old``; None: that takes another round.

    Three rounds at least say yes, five at most are asked for; a no comes as early as one can see
    that there is nothing to win. A setting that meets the target beats one that does not.
    """
    gains = goal.gains(new, old)
    rounds = len(gains)
    if not rounds:
        return None
    middle = median(gains)
    latency = goal.compares_latency(new, old)
    least = margin(MOST_ROUNDS, noise, latency)
    if goal.meets(new) and not goal.meets(old):
        if rounds >= LEAST_ROUNDS:
            return middle > 0
        return None if middle > 0 else False
    if rounds == 1:
        return None if middle > -least else False
    if rounds < LEAST_ROUNDS:
        return None if middle > least / 3 else False
    good = sum(gain > 0 for gain in gains)
    if middle > margin(rounds, noise, latency) and good >= max(LEAST_ROUNDS, rounds - 1):
        return True
    return None if rounds < MOST_ROUNDS and middle > least else False
