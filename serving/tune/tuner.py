"""Carries a search out within its time: measures what it asks for, and closes with a comparison."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from serving.tune.goal import LEAST_ROUNDS, Goal, Sample
from serving.tune.race import Standing, Step
from serving.tune.search import BASELINES, Search
from serving.tune.setting import Setting

_LAST_RACE = 2 * LEAST_ROUNDS
"""How many measurements the last race takes at least."""


@dataclass(frozen=True)
class Outcome:
    """What to run with. ``better`` is whether it is another setting than at the start.

    ``met`` says whether it meets the target; ``complete`` whether all that was to be tried was.
    ``last`` is how the search's best did in the last race against the start, None where there was
    none to run; ``noise`` the deviation of such a gain from one round to the next.
    """

    setting: Setting
    better: bool
    met: bool
    complete: bool
    last: Standing | None
    noise: float


class Tuner:
    """Runs a search. ``tell`` hears every step; ``measure`` is the only thing that takes time."""

    def __init__(
        self,
        search: Search,
        goal: Goal,
        measure: Callable[[Setting], Sample],
        tell: Callable[[Step], None],
        clock: Callable[[], float],
    ) -> None:
        self._search = search
        self._goal = goal
        self._measure = measure
        self._tell = tell
        self._clock = clock
        self._spent_s = 0.0
        self._count = 0

    def run(self, ends: float, later: int) -> Outcome:
        """Search until ``ends`` on the clock, with time left for ``later`` more measurements.

        However little time there is, the present setting is measured.
        """
        search = self._search

        def time_left(more: int) -> bool:
            each_s = self._spent_s / max(1, self._count)
            return self._clock() + each_s * (1 + later + more) < ends

        complete = self._drive(
            search.steps(), lambda count: count < BASELINES or time_left(2 * _LAST_RACE)
        )
        race = search.last_race()
        last, won = None, False
        if race is not None:
            ended = self._drive(search.run(race), lambda count: count < _LAST_RACE or time_left(0))
            last = race.standing(search.best)
            won = (race.winner if ended else race.ahead()) is not None
        best = search.best if won else search.start
        samples = search.samples.get(best, ())
        noise = search.noise(self._goal.compares_latency(samples))
        return Outcome(best, won, self._goal.meets(samples), complete, last, noise)

    def _drive(self, steps: Generator[Step, Sample, None], go_on: Callable[[int], bool]) -> bool:
        """Measure while ``go_on`` says so of the count; returns if the steps came to their end."""
        count = 0
        try:
            step = next(steps)
            while go_on(count):
                step = steps.send(self._timed(step))
                count += 1
        except StopIteration:
            return True
        steps.close()
        return False

    def _timed(self, step: Step) -> Sample:
        self._tell(step)
        began = self._clock()
        sample = self._measure(step.setting)
        self._spent_s += self._clock() - began
        self._count += 1
        return sample
