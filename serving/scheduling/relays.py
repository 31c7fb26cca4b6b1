"""Into how many relays the callers of a line are divided: learned by trying both.

Callers who ask again when they are answered fall into step: all run together, and the workers are
idle until master and clients have turned round for every one of them. In two relays one runs while
the other is answered. But each run costs master and worker something however few its rows are, and
where they share cores nobody is idle. What that comes to cannot be told from the times of runs, so
where slots are idle the other number is tried now and then, for a few turns of the callers, and
what answers more rows a second stays.
"""

from __future__ import annotations

import collections
import statistics

_TURNS = 12
_SETTLING_TURNS = 2
_LEAST_S = 0.02
"""No shorter time is judged: others take the cores from us for a few milliseconds."""

_CLEAR_GAIN = 1.04
_GAIN = 1.02
_NO_LOSS = 0.97
_CLEAR_LOSS = 0.9
_GREAT_LOSS = 0.8
_REMEMBERED = 5
_WINS = 6
_LOSSES = 3
_STEADY = 1.5
_FIRST_S = 0.3
_AGAIN_S = 2.0
_LONGER = 4.0
_SELDOM_S = 60.0


class Relays:
    """One line's. ``count``, 1 or 2, is what holds now; ``now`` is always monotonic seconds.

    Times of one number and times of the other are compared pair by pair, and the other number has
    to win most of them. Callers once out of step stay so for a while though nothing divides them:
    two relays are as good as one in such a pair, and win by what was before the trial.
    """

    __slots__ = (
        "_again_s", "_before", "_busy", "_crowd", "_fixed_s", "_goal", "_inside", "_kept", "_known",
        "_losses", "_next", "_rates", "_rows", "_runs", "_settling", "_since", "_slots", "_until",
        "_wins", "count",
    )  # fmt: skip

    def __init__(self) -> None:
        self.count = self._kept = 1
        self._busy, self._fixed_s, self._slots = 1.0, 0.0, 1
        self._crowd = self._known = 0.0
        self._next = 0.0
        self._again_s = _AGAIN_S
        self._before: collections.deque[float] = collections.deque(maxlen=_REMEMBERED)
        self._rates: list[float] = []  # of the trial that is under way
        self._wins = self._losses = 0
        self._settling = True
        self._since = self._until = 0.0
        self._goal = self._rows = self._runs = self._inside = 0

    def rows(self, callers: int, slots: int, busy: float, fixed_s: float) -> int:
        """Return how many rows of so many a run of a relay has, for one of ``slots`` slots.

        The slot was ``busy`` for such a part of the time; a run costs ``fixed_s`` however few its
        rows are: both say what there is to be gained.
        """
        self._busy, self._fixed_s, self._slots = busy, fixed_s, slots
        return 1 << 30 if self.count == 1 else max(1, -(-callers // (self.count * slots)))

    def landed(self, rows: int, inside: int, now: float) -> None:
        """A run of so many rows is over; ``inside`` others wait or run."""
        self._rows += rows
        self._runs += 1
        self._inside += rows + inside
        if self._rows >= self._goal and now >= self._until:
            self._look(now)

    def _look(self, now: float) -> None:
        before = self.count
        if not self._settling:
            self._judge(self._rows / (now - self._since), now)
        if not self._next:
            self._next = now + _FIRST_S
            self._crowd = self._inside / self._runs
        self._settling = self.count != before
        self._goal = round(self._crowd * (_SETTLING_TURNS if self._settling else _TURNS))
        self._since, self._until = now, now + (0.0 if self._settling else _LEAST_S)
        self._rows = self._runs = self._inside = 0

    def _judge(self, rate: float, now: float) -> None:
        if self.count == self._kept and not self._is_steady():
            if self._rates:
                self._end_trial(self._kept, now + self._again_s)
        elif not (self._rates or self._is_known()):
            self._again_s = _AGAIN_S
            self._before.clear()
            self._end_trial(1, now + _FIRST_S)
        elif self._rates:
            self._rates.append(rate)
            if len(self._rates) % 2 == 0:
                self._compare(now)
        elif now >= self._next and (self._kept > 1 or self._is_idle(rate)):
            self._rates.append(rate)
        else:
            self._before.append(rate)
        if self._rates:  # A B, B A, A B, …: a drift helps neither
            self.count = 3 - self._kept if len(self._rates) % 4 in (1, 2) else self._kept

    def _is_steady(self) -> bool:
        """Return whether about as many callers are inside as when last looked; note how many."""
        before, self._crowd = self._crowd, self._inside / self._runs
        return _near(self._crowd, before)

    def _is_known(self) -> bool:
        """Return whether they are as many as those for whom the number was chosen."""
        self._known = self._known or self._crowd
        return _near(self._crowd, self._known)

    def _is_idle(self, rate: float) -> bool:
        """Return whether a slot is idle between runs for longer than one more run would cost."""
        if self._crowd < 2 * self._slots:
            return False
        run_to_run_s = self._slots * self._rows / self._runs / rate
        return (1.0 - self._busy) * run_to_run_s > self._fixed_s

    def _compare(self, now: float) -> None:
        kept, other = self._rates[-2:] if len(self._rates) % 4 == 2 else self._rates[:-3:-1]
        gain = other / kept
        if self._kept > 1:
            won = gain > _GAIN
        else:
            before = statistics.median(self._before or (kept,))
            won = gain > _NO_LOSS and max(gain, other / before) > _CLEAR_GAIN
        if won:
            self._wins += 1
        else:
            self._losses += 1 + (gain < _CLEAR_LOSS) + (gain < _GREAT_LOSS)
        if self._wins >= _WINS:
            self._again_s = _AGAIN_S
            self._end_trial(3 - self._kept, now + _AGAIN_S)
        elif self._losses >= _LOSSES:
            self._end_trial(self._kept, now + self._again_s)
            self._again_s = min(_SELDOM_S, self._again_s * _LONGER)

    def _end_trial(self, kept: int, next_at: float) -> None:
        self.count = self._kept = kept
        self._next = next_at
        self._known = 0.0  # other numbers of relays have other numbers inside: see the next time
        self._rates.clear()
        self._wins = self._losses = 0


def _near(one: float, other: float) -> bool:
    return other / _STEADY < one < other * _STEADY
