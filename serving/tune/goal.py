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

LEAST_ROUNDS = 3
MOST_ROUNDS = 16
"""Rounds that a yes takes at least, and after which what is not shown is not so."""

_FEW_ROUNDS = 7
"""Of fewer, hiccups may have met most: then every round counts, not the median alone."""

_EVERY = 0.6
_MOSTLY = 0.75
_MEDIAN = 1.25
"""The median of several values strays so much more than their mean (normal noise)."""

_DEVIATION = 1.4826
"""The standard deviation of normal noise, in medians of its absolute values."""

_LEAST_NOISE = 0.03
"""No machine is as even as a few rounds may make it look."""

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
class Proof:
    """How much it takes for a yes.

    The median gain must be above this ``share`` of the least gain, and as many times the deviation
    that noise gives it.
    """

    share: float = 1.0
    certain: float = 3.0


FIRST = Proof()
AGAIN = Proof(share=0.5, certain=2.0)
"""For what was shown once already and only has to hold."""

PLAINER = Proof(certain=4.0)
"""For a setting that is to be better than a plainer one that is good as well."""


@dataclass(frozen=True)
class Goal:
    """Most answers a second from a closed loop; the shortest p99 where the rate is given.

    Either with a p99 of at most ``target_ms``, if one is asked for: what misses it is only ever
    better by a shorter p99.
    """

    target_ms: float | None = None
    fixed_rate: bool = False

    def meets(self, samples: Sequence[Sample]) -> bool:
        """Return whether a setting does what is asked.

        By the median of its measurements; of two the better one, for hiccups.
        """
        if not samples or sum(s.sound for s in samples) * 2 <= len(samples):
            return False
        typical = median if len(samples) >= LEAST_ROUNDS else min
        return self.target_ms is None or typical([s.p99_ms for s in samples]) <= self.target_ms

    def compares_latency(self, *sides: Sequence[Sample]) -> bool:
        """Return whether p99 decides between settings, and not the rate."""
        if self.target_ms is None:
            return self.fixed_rate
        return self.fixed_rate or not all(self.meets(side) for side in sides)

    def gains(self, new: Sequence[Sample], old: Sequence[Sample]) -> list[float]:
        """Return, round by round, the logarithm of how much better ``new`` was than ``old``."""
        latency = self.compares_latency(new, old)
        return [_gain(a, b, latency) for a, b in zip(new, old, strict=False)]

    def lead(self, new: Sequence[Sample], old: Sequence[Sample]) -> list[float]:
        """Return the gains by which settings that all meet the target, or all miss it, compare."""
        latency = self.compares_latency(new)
        return [_gain(a, b, latency) for a, b in zip(new, old, strict=False)]

    def least(self, *sides: Sequence[Sample]) -> float:
        """Return the logarithm of what a change must bring at least."""
        latency = self.compares_latency(*sides)
        return math.log1p(LEAST_LATENCY_GAIN if latency else LEAST_RATE_GAIN)


def _gain(new: Sample, old: Sample, latency: bool) -> float:
    if not (new.sound and old.sound):
        return _LIMIT * (new.sound - old.sound)
    gain = math.log(old.p99_ms / new.p99_ms) if latency else math.log(new.rate / old.rate)
    return max(-_LIMIT, min(_LIMIT, gain))


Series = tuple[Sequence[Sample], Sequence[Sample]]
"""The measurements of two settings, taken in turns."""


def noise(
    alone: Iterable[Sequence[Sample]], races: Iterable[Sequence[Series]], latency: bool
) -> float:
    """Return the standard deviation of a gain that means nothing, 0 if nothing tells.

    ``alone`` are measurements of one setting right after each other; in ``races`` the gains of
    several over one should be the same each round. Only neighbours are compared, so that a slow
    drift of the machine does not count; and the median of it is taken, so that a hiccup does not
    either, not even one of the setting that all in a race are held against.
    """
    steps = [
        abs(_gain(later, earlier, latency))
        for samples in alone
        for earlier, later in pairwise(samples)
        if earlier.sound and later.sound
    ]
    for race in races:
        rounds: dict[int, list[float]] = {}
        for new, old in race:
            gains = [_gain(a, b, latency) for a, b in zip(new, old, strict=False)]
            for number, (earlier, later) in enumerate(pairwise(gains)):
                rounds.setdefault(number, []).append(abs(later - earlier) / math.sqrt(2))
        steps += [median(each) for each in rounds.values()]
    return median(steps) * _DEVIATION if steps else 0.0


def judge(
    goal: Goal,
    new: Sequence[Sample],
    old: Sequence[Sample],
    noise: float,
    proof: Proof = FIRST,
) -> bool | None:
    """Return whether ``new`` is better than ``old``; None: that takes another round.

    A yes: the median gain is above the least gain and above the noise, in most of at least three
    rounds. A no comes as early as the least gain is out of reach; of two rounds the better one
    counts for that, as a hiccup may have met the other. A setting that meets the target beats one
    that does not.
    """
    gains = goal.gains(new, old)
    rounds = len(gains)
    if rounds < LEAST_ROUNDS - 1:
        return None
    noise = max(noise, _LEAST_NOISE)
    least = goal.least(new, old) * proof.share
    middle = median(gains) if rounds >= LEAST_ROUNDS else max(gains)
    if goal.meets(new) != goal.meets(old):
        if rounds < LEAST_ROUNDS:
            return None
        return goal.meets(new) and middle > -least
    doubt = _MEDIAN * noise / math.sqrt(rounds)
    shown = max(least, proof.certain * doubt)
    last = max(least, proof.certain * _MEDIAN * noise / math.sqrt(MOST_ROUNDS))
    few = rounds < _FEW_ROUNDS
    if middle + doubt < last and not (few and max(gains) > least + 2 * noise):
        return False
    if rounds >= LEAST_ROUNDS and middle > shown:
        good = sum(gain > 0 for gain in gains)
        if (
            min(gains) > max(least, _EVERY * proof.certain * noise)
            if few
            else good >= _MOSTLY * rounds
        ):
            return True
    return None if rounds < MOST_ROUNDS else False
