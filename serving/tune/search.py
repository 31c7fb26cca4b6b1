"""Which setting to measure next, given what was measured so far: a search that does nothing else.

One coordinate after another. A *look* measures each value of a coordinate once, next to the best
setting known; a *duel* then measures the most promising value and the best setting in turn until
one is better by more than noise, or it is plain that neither is. So a slow drift of the machine
touches both sides alike, and every change has been shown, not guessed from a single lucky run.
Among values that look alike the default is taken, else the one nearest to what is set already, and
at the end each change is tried without: what is not needed goes. So two searches come to the same
settings wherever that can be.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from serving.tune.goal import MOST_ROUNDS, Goal, Sample, judge, margin, noise
from serving.tune.setting import DEFAULT, Setting, Space, Value, text, worth_trying

BASELINES = 5
"""How often the present setting is measured first: what that differs by is noise."""

_MOST_PASSES = 3
_NEEDLESS = 0.5
"""A change is needed if the result without it is worse by this part of the least gain."""

_ROUNDS_WITHOUT = 3


@dataclass(frozen=True)
class Step:
    """What to measure next; ``why`` says it for people."""

    setting: Setting
    why: str


@dataclass(frozen=True)
class Decision:
    """A duel's end: whether ``new`` took the place of ``old``; ``gain`` is a logarithm."""

    name: str
    old: Value
    new: Value
    gain: float
    taken: bool

    @property
    def text(self) -> str:
        """Return the decision in one line."""
        head = f"{text(self.name, self.old)} -> {text(self.name, self.new).split()[-1]}"
        return f"{head}: {math.expm1(self.gain):+.0%}, {'taken' if self.taken else 'not taken'}"


Steps = Generator[Step, Sample, None]


class Search:
    """Holds what is known. ``best`` has won every duel so far, or is the setting at the start."""

    def __init__(self, space: Space, start: Setting, goal: Goal, cores: int) -> None:
        self._space = space
        self._goal = goal
        self._cores = cores
        self.start = start
        self.best = start
        self.samples: dict[Setting, list[Sample]] = {}
        self.decisions: list[Decision] = []

    def steps(self) -> Steps:
        """Yield what to measure; what is sent back is what came of it."""
        for number in range(BASELINES):
            yield from self._measure(self.start, f"as it is, {number + 1} of {BASELINES}")
        looked: dict[str, Setting] = {}
        for _ in range(_MOST_PASSES):
            before = self.best
            for name in self._space:
                if looked.get(name) == self.best:
                    continue
                at = self.best
                yield from self._coordinate(name)
                # Where the target was missed, p99 alone led: among what keeps it, look again.
                looked[name] = self.best if self._goal.meets(self.samples[at]) else at
            if self.best == before:
                break
        yield from self._plainer()

    def final(self) -> Generator[Step, Sample, tuple[bool, float]]:
        """Yield what to measure for a last duel of best and start; returns if it was won, by what.

        Without a change there is none.
        """
        if self.best == self.start:
            return False, 0.0
        return (yield from self._duel(self.best, self.start, "before and after"))

    def guess(self) -> None:
        """Take what looked best for the best: for a search that was cut short, before the duel."""
        if self.best != self.start or not self.samples:
            return
        now = self.samples[self.start]
        found = {
            setting: median(self._goal.gains(samples, now))
            for setting, samples in self.samples.items()
            if setting != self.start and self._goal.meets(samples) >= self._goal.meets(now)
        }
        if not found:
            return
        likely = max(found, key=lambda setting: found[setting])
        latency = self._goal.compares_latency(self.samples[likely], now)
        if found[likely] > margin(1, self.noise(latency), latency):
            self.best = likely

    def noise(self, latency: bool) -> float:
        """Return the standard deviation of a gain that means nothing."""
        return noise(self.samples.values(), latency)

    # -- inside --------------------------------------------------------------------------------

    def _measure(self, setting: Setting, why: str) -> Generator[Step, Sample, Sample]:
        sample = yield Step(setting, why)
        self.samples.setdefault(setting, []).append(sample)
        return sample

    def _coordinate(self, name: str) -> Steps:
        values = worth_trying(self._space[name], name, self.best, self._cores)
        if not values:
            return
        seen = yield from self._look(name, values)
        for value in self._contenders(name, seen):
            if (yield from self._try(name, value)):
                return

    def _look(
        self, name: str, values: Sequence[Value]
    ) -> Generator[Step, Sample, dict[Value, float]]:
        """Measure each value once, every two of them around a measurement of the best setting."""
        seen: dict[Value, float] = {}
        beside: Sample | None = None
        for number, value in enumerate(values):
            if number % 2 == 0:
                beside = yield from self._measure(self.best, f"beside {text(name, value)}")
            assert beside is not None
            setting = self.best.having(name, value)
            sample = yield from self._measure(setting, f"a look at {text(name, value)}")
            seen[value] = fmean(self._goal.gains([sample], [beside]))
        return seen

    def _contenders(self, name: str, seen: dict[Value, float]) -> list[Value]:
        """Return the values to duel with: the plainest of those that look best, then the best."""
        top = max(seen, key=lambda value: seen[value])
        latency = self._goal.fixed_rate
        slack = margin(MOST_ROUNDS, self.noise(latency), latency)
        if seen[top] <= -slack:
            return []
        order = list(self._space[name])
        here = order.index(now) if (now := self.best.value(name)) in order else 0
        plain = DEFAULT.value(name)
        alike = [value for value in seen if seen[value] >= seen[top] - slack]
        first = min(alike, key=lambda v: (v != plain, abs(order.index(v) - here), order.index(v)))
        return [first] if first == top else [first, top]

    def _try(self, name: str, value: Value) -> Generator[Step, Sample, bool]:
        new = self.best.having(name, value)
        won, gain = yield from self._duel(new, self.best, text(name, value))
        if won:
            self._take(name, value, gain)
        else:
            self.decisions.append(Decision(name, self.best.value(name), value, gain, False))
        return won

    def _duel(
        self, new: Setting, old: Setting, about: str
    ) -> Generator[Step, Sample, tuple[bool, float]]:
        """Measure both in turn, each first in every other round, until it is decided."""
        ours: list[Sample] = []
        theirs: list[Sample] = []
        verdict: bool | None = None
        while verdict is None:
            yield from self._round(new, old, ours, theirs, about)
            latency = self._goal.compares_latency(ours, theirs)
            verdict = judge(self._goal, ours, theirs, self.noise(latency))
        return verdict, median(self._goal.gains(ours, theirs))

    def _round(
        self, new: Setting, old: Setting, ours: list[Sample], theirs: list[Sample], about: str
    ) -> Steps:
        turns = [(new, ours), (old, theirs)]
        for setting, samples in turns if len(ours) % 2 == 0 else reversed(turns):
            why = f"{about}, round {len(samples) + 1}"
            samples.append((yield from self._measure(setting, why)))

    def _plainer(self) -> Steps:
        """Drop the changes that the result does not need, and take defaults that do as well."""
        for name, value in self.best.changes(self.start).items():
            plain = DEFAULT.value(name)
            if plain not in (value, self.start.value(name)):
                won, gain = yield from self._duel(
                    self.best, self.best.having(name, plain), f"beside {text(name, plain)}"
                )
                if not won:
                    self._take(name, plain, -gain)
                    continue
            if len(self.best.changes(self.start)) > 1:  # else the duel that it won was just this
                yield from self._without(name)

    def _without(self, name: str) -> Steps:
        with_it, before = self.best, self.start.value(name)
        ours: list[Sample] = []
        theirs: list[Sample] = []
        about = f"without {text(name, with_it.value(name))}"
        for _ in range(_ROUNDS_WITHOUT):
            yield from self._round(with_it.having(name, before), with_it, ours, theirs, about)
        latency = self._goal.compares_latency(ours, theirs)
        gain = median(self._goal.gains(ours, theirs))
        worse = self._goal.meets(theirs) and not self._goal.meets(ours)
        if not worse and gain > -_NEEDLESS * margin(_ROUNDS_WITHOUT, 0.0, latency):
            self._take(name, before, gain)

    def _take(self, name: str, value: Value, gain: float) -> None:
        self.decisions.append(Decision(name, self.best.value(name), value, gain, True))
        self.best = self.best.having(name, value)
