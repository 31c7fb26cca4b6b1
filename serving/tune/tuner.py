"""Carries a search out within its time: measures what it asks for, and closes with a comparison."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from serving.tune.goal import LEAST_ROUNDS, Goal, Sample
from serving.tune.search import BASELINES, Search, Step
from serving.tune.setting import Setting

T = TypeVar("T")

_LAST_DUEL = 2 * LEAST_ROUNDS


@dataclass(frozen=True)
class Outcome:
    """What to run with. ``better`` is whether it is another setting than at the start.

    ``met`` says whether it meets the target; ``complete`` whether all that was to be tried was.
    ``gain`` is the logarithm of how much better the search's best was in the last comparison,
    0.0 where there was none to make; ``noise`` the deviation of such a figure that means nothing.
    """

    setting: Setting
    better: bool
    met: bool
    complete: bool
    gain: float
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

        def time_left() -> bool:
            each_s = self._spent_s / max(1, self._count)
            if len(search.samples.get(search.start, ())) < BASELINES:
                return True
            return self._clock() + each_s * (1 + later + _LAST_DUEL) < ends

        complete, _ = self._drive(search.steps(), time_left)
        if not complete:
            search.guess()
        _, last = self._drive(search.final(), lambda: True)
        won, gain = last or (False, 0.0)
        best = search.best if won else search.start
        samples = search.samples.get(best, ())
        noise = search.noise(self._goal.compares_latency(samples))
        return Outcome(best, won, self._goal.meets(samples), complete, gain, noise)

    def _drive(
        self, steps: Generator[Step, Sample, T], go_on: Callable[[], bool]
    ) -> tuple[bool, T | None]:
        """Return whether the steps came to their end, and what they returned."""
        try:
            step = next(steps)
            while go_on():
                step = steps.send(self._timed(step))
        except StopIteration as end:
            return True, end.value
        steps.close()
        return False, None

    def _timed(self, step: Step) -> Sample:
        self._tell(step)
        began = self._clock()
        sample = self._measure(step.setting)
        self._spent_s += self._clock() - began
        self._count += 1
        return sample
