"""Which setting to measure next, given what was measured so far: a search that does nothing else.

One coordinate after another: all its values, and the best setting so far, run a race. What wins
takes the place of the best setting, and the next coordinate's race is beside that. It goes round
until nothing changes, and at the end each change is tried without: what is not needed goes. Plain
values win among equals, so that two searches come to the same settings wherever that can be.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass

from serving.tune.goal import AGAIN, FIRST, Goal, Proof, Sample, Series, noise
from serving.tune.race import Race, Standing, Step
from serving.tune.setting import Setting, Space, Value, plainest_first, text, worth_trying

BASELINES = 4
"""How often the present setting is measured first: what that differs by is noise."""

_MOST_PASSES = 3
_HOPELESS = -0.2
"""A value whose best round was so far behind is not tried again when another coordinate changed."""


@dataclass(frozen=True)
class Decision:
    """A race's end: ``new`` took the place of ``old``, or ``old`` stayed and ``new`` came nearest.

    ``standings`` are those of all values against ``old``, best first; ``noise`` is the deviation of
    such a figure from one round to the next. ``needless``: ``old`` came back, as the result was as
    good with it.
    """

    name: str
    old: Value
    new: Value
    taken: bool
    standings: Mapping[Value, Standing]
    noise: float
    needless: bool = False


Steps = Generator[Step, Sample, None]


class Search:
    """Holds what is known. ``best`` has won every race so far, or is the setting at the start."""

    def __init__(self, space: Space, start: Setting, goal: Goal, cores: int) -> None:
        self._space = space
        self._goal = goal
        self._cores = cores
        self.start = start
        self.best = start
        self.samples: dict[Setting, list[Sample]] = {}
        self.decisions: list[Decision] = []
        self._alone: list[Sample] = []
        self._races: list[list[Series]] = []
        self._now: Race | None = None
        self._hopeless: set[tuple[str, Value]] = set()

    def steps(self) -> Steps:
        """Yield what to measure; what is sent back is what came of it."""
        for number in range(BASELINES):
            step = Step(self.start, f"as it is, {number + 1} of {BASELINES}")
            self._alone.append((yield from self._measure(step)))
        raced: dict[str, Setting] = {}
        for _ in range(_MOST_PASSES):
            before = self.best
            for name in self._space:
                if raced.get(name) != self.best:
                    yield from self._coordinate(name)
                    raced[name] = self.best
            if self.best == before:
                break
        yield from self._needed()

    def last_race(self) -> Race | None:
        """Return a race, still to be run, of what was found against the start.

        A search that was cut short takes part with what was ahead in its last race, which then has
        all to show. None without a change.
        """
        proof = AGAIN
        if self.best == self.start and self._now is not None:
            self.best = self._now.ahead() or self.start
            proof = FIRST
        if self.best == self.start:
            return None
        return self._racing(self.start, {self.best: "what was found"}, proof)

    def run(self, race: Race) -> Steps:
        """Yield what to measure until a race has come to its end."""
        self._now = race
        steps = race.steps()
        try:
            step = next(steps)
            while True:
                step = steps.send((yield from self._measure(step)))
        except StopIteration:
            self._now = None

    def noise(self, latency: bool) -> float:
        """Return the standard deviation of a gain that means nothing."""
        return noise([self._alone], self._races, latency)

    # -- inside --------------------------------------------------------------------------------

    def _measure(self, step: Step) -> Generator[Step, Sample, Sample]:
        sample = yield step
        self.samples.setdefault(step.setting, []).append(sample)
        return sample

    def _racing(self, present: Setting, entrants: Mapping[Setting, str], proof: Proof) -> Race:
        race = Race(self._goal, present, entrants, self.noise, proof)
        self._races.append(race.turns)
        return race

    def _coordinate(self, name: str) -> Steps:
        at = self.best
        values = [
            value
            for value in worth_trying(self._space[name], name, at, self._cores)
            if (name, value) not in self._hopeless
        ]
        if not values:
            return
        entrants = {at.having(name, v): text(name, v) for v in plainest_first(name, values)}
        race = self._racing(at, entrants, FIRST)
        yield from self.run(race)
        found = {setting: race.standing(setting) for setting in entrants}
        self._hopeless |= {
            (name, s.value(name))
            for s, standing in found.items()
            if race.at_best(s) < _HOPELESS and not standing.latency
        }
        ranked = sorted(found, key=race.rank, reverse=True)
        self._decide(name, race.winner or at, race.winner or ranked[0], ranked, race)

    def _decide(
        self, name: str, best: Setting, new: Setting, ranked: list[Setting], race: Race
    ) -> None:
        self.decisions.append(
            Decision(
                name, self.best.value(name), new.value(name), best != self.best,
                {s.value(name): race.standing(s) for s in ranked},
                self.noise(self._goal.fixed_rate),
            )
        )  # fmt: skip
        self.best = best

    def _needed(self) -> Steps:
        """Drop the changes that the result does not need."""
        for name, value in self.best.changes(self.start).items():
            if len(self.best.changes(self.start)) < 2:
                return  # the race that it won was just this
            without = self.best.having(name, self.start.value(name))
            race = self._racing(without, {self.best: text(name, value)}, AGAIN)
            yield from self.run(race)
            if race.winner is None:
                self.decisions.append(
                    Decision(
                        name, without.value(name), value, False,
                        {value: race.standing(self.best)},
                        self.noise(self._goal.fixed_rate), needless=True,
                    )
                )  # fmt: skip
                self.best = without
