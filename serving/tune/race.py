"""Settings measured in turns, round after round, until it is plain which one to take; pure.

Every round measures all that are still in it, the present setting in their middle, forwards and
backwards by turns, so that a drift of the machine touches all alike. What surely cannot win leaves
the race; after three rounds four are left of it, after five two. Among those that do equally well
the plainest wins, and the present setting before all.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from statistics import median

from serving.tune.goal import MOST_ROUNDS, PLAINER, Goal, Proof, Sample, Series, judge
from serving.tune.setting import Setting

_PLACES = {3: 4, 5: 2}
"""How many may go on after so many rounds."""

_FAR_BEHIND = 0.7
_FAR_NOISE = 4.0
"""What is left after one look is half as good, and by so much more than the noise."""

_ALIKE_ROUNDS = 8


@dataclass(frozen=True)
class Step:
    """What to measure next; ``why`` says it for people."""

    setting: Setting
    why: str


@dataclass(frozen=True)
class Standing:
    """How a setting did against the present one.

    ``gain`` is the median of logarithms, of p99 if ``latency``; it was better in ``good`` of its
    ``rounds``. ``runs``: it could be loaded, and answered rightly.
    """

    gain: float
    good: int
    rounds: int
    latency: bool
    meets: bool
    runs: bool


class Race:
    """One race. ``entrants`` stand plainest first, with their names; ``noise`` is asked anew."""

    def __init__(
        self,
        goal: Goal,
        present: Setting,
        entrants: Mapping[Setting, str],
        noise: Callable[[bool], float],
        proof: Proof,
    ) -> None:
        self._goal = goal
        self._present = present
        self._names = {**entrants, present: "as it is now"}
        self._noise = noise
        self._proof = proof
        self._alive = list(entrants)
        self._rounds = 0
        self.samples: dict[Setting, list[Sample]] = {s: [] for s in (*entrants, present)}
        self.winner: Setting | None = None

    @property
    def turns(self) -> list[Series]:
        """Each entrant's measurements beside those of the present setting."""
        theirs = self.samples[self._present]
        return [(ours, theirs) for s, ours in self.samples.items() if s != self._present]

    def steps(self) -> Generator[Step, Sample, None]:
        """Yield what to measure, until there is a ``winner`` or it is plain that there is none."""
        while self._alive and self.winner is None and self._rounds < MOST_ROUNDS:
            yield from self._round()
            self._drop()
            self.winner = self._decided()

    def standing(self, setting: Setting) -> Standing:
        """Return how an entrant did."""
        ours, theirs = self.samples[setting], self.samples[self._present]
        gains = self._goal.gains(ours, theirs)
        return Standing(
            gain=median(gains),
            good=sum(gain > 0 for gain in gains),
            rounds=len(gains),
            latency=self._goal.compares_latency(ours, theirs),
            meets=self._goal.meets(ours),
            runs=any(sample.sound for sample in ours),
        )

    def at_best(self, setting: Setting) -> float:
        """Return the gain of an entrant's best round."""
        return max(self._gains(setting, self._present))

    def rank(self, setting: Setting) -> tuple[bool, float]:
        """Return whether it meets the target, and its gain; of two rounds the better one counts."""
        ours = self.samples[setting]
        gains = self._goal.lead(ours, self.samples[self._present])
        return self._goal.meets(ours), median(gains) if self._rounds > 2 else max(gains)

    def ahead(self) -> Setting | None:
        """Return what leads in a race that was cut short; None where nothing does by enough."""
        if not self.samples[self._present]:
            return None
        seen = [s for s in self._alive if self.samples[s]]
        ahead = [s for s in seen if self.standing(s).gain > self._least(s, self._present)]
        return max(ahead, key=self.rank, default=None)

    # -- inside --------------------------------------------------------------------------------

    def _round(self) -> Generator[Step, Sample, None]:
        middle = (len(self._alive) + 1) // 2
        order = [*self._alive[:middle], self._present, *self._alive[middle:]]
        self._rounds += 1
        for setting in order if self._rounds % 2 else order[::-1]:
            sample = yield Step(setting, f"round {self._rounds}, {self._names[setting]}")
            self.samples[setting].append(sample)

    def _drop(self) -> None:
        if self._rounds == 1:
            behind = -max(_FAR_BEHIND, _FAR_NOISE * self._noise(self._goal.fixed_rate))
            self._alive = [s for s in self._alive if self.at_best(s) > behind]
            return
        self._alive = [s for s in self._alive if self._judge(s, self._present) is not False]
        if self._alive:
            top = max(self._alive, key=self.rank)
            self._alive = [s for s in self._alive if s == top or self._alike(top, s)]
        places = _PLACES.get(self._rounds, len(self._alive))
        if len(self._alive) > places:
            kept = sorted(self._alive, key=self.rank, reverse=True)[:places]
            if (plain := self._plainest(kept[0])) not in kept:
                kept[-1] = plain
            self._alive = [s for s in self._alive if s in kept]

    def _plainest(self, top: Setting) -> Setting:
        """Return the plainest that may do as well as the one on top."""
        return next(s for s in self._alive if s == top or self._alike(top, s))

    def _alike(self, top: Setting, other: Setting) -> bool:
        """Whether the one on top is not surely better; of two rounds, the other's better counts."""
        if self._rounds > 2:
            return self._judge(top, other, PLAINER) is not True
        latency = self._goal.compares_latency(self.samples[top], self.samples[other])
        return min(self._gains(top, other)) < self._least(top, other) + self._noise(latency)

    def _decided(self) -> Setting | None:
        if not self._alive:
            return None
        top = max(self._alive, key=self.rank)
        if self._judge(top, self._present) is not True:
            return None
        for setting in self._alive:
            if setting == top:
                return top
            verdict = self._judge(top, setting, PLAINER)
            if verdict is None and self._rounds < _ALIKE_ROUNDS:
                return None
            if verdict is not True:
                return setting
        return top

    def _judge(self, new: Setting, old: Setting, proof: Proof | None = None) -> bool | None:
        latency = self._goal.compares_latency(self.samples[new], self.samples[old])
        noise = self._noise(latency)
        return judge(self._goal, self.samples[new], self.samples[old], noise, proof or self._proof)

    def _gains(self, new: Setting, old: Setting) -> list[float]:
        return self._goal.gains(self.samples[new], self.samples[old])

    def _least(self, new: Setting, old: Setting) -> float:
        return self._goal.least(self.samples[new], self.samples[old])
