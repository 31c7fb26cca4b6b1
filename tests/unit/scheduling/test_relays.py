"""Into how many relays callers are divided: what is kept after trials, and when there are any."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from serving.scheduling.relays import Relays

UNDIVIDED = 1 << 30


class Callers:
    """So many who come back for ever; ``rate`` says how many rows a second one or two relays do."""

    def __init__(
        self, rate: Callable[[int], float], callers: int = 8, busy: float = 0.5, slots: int = 1
    ) -> None:
        self.relays = Relays()
        self.rate, self.callers, self.busy, self.slots = rate, callers, busy, slots
        self.now = 100.0
        self.seen = {1: 0.0, 2: 0.0}

    def live(self, seconds: float) -> int:
        """Return the number of relays that holds in the end."""
        until = self.now + seconds
        while self.now < until:
            divided = self.relays.rows(self.callers, self.slots, self.busy, 100e-6)
            rows = min(divided, -(-self.callers // self.slots))
            took = rows / self.rate(self.relays.count)
            self.now += took
            self.seen[self.relays.count] += took
            self.relays.landed(rows, self.callers - rows, self.now)
        return self.relays.count


def steady(one: float, two: float, noise: float = 0.0) -> Callable[[int], float]:
    source = random.Random(3)
    return lambda count: (one if count == 1 else two) * source.uniform(1 - noise, 1 + noise)


def test_relays_are_two_where_that_answers_more_and_rows_are_divided() -> None:
    callers = Callers(steady(7000.0, 9500.0, noise=0.2))
    assert callers.relays.rows(8, 1, 0.5, 100e-6) == UNDIVIDED
    assert callers.live(2.0) == 2
    assert callers.relays.rows(9, 1, 0.5, 100e-6) == 5
    assert callers.relays.rows(9, 2, 0.5, 100e-6) == 3
    assert callers.live(200.0) == 2
    assert callers.seen[1] < 0.03 * 202


@pytest.mark.parametrize("two", [20_000.0, 30_000.0])
def test_relays_stay_one_where_two_gain_nothing_and_are_seldom_tried(two: float) -> None:
    callers = Callers(steady(30_000.0, two, noise=0.02))
    assert callers.live(60.0) == 1
    assert 0 < callers.seen[2] < 0.02 * 60


def test_relays_are_one_again_where_that_has_become_better() -> None:
    callers = Callers(steady(7000.0, 9500.0))
    assert callers.live(2.0) == 2
    callers.rate = steady(7000.0, 5000.0)
    assert callers.live(70.0) == 1


def test_relays_are_tried_anew_for_another_number_of_callers() -> None:
    callers = Callers(steady(7000.0, 9500.0))
    assert callers.live(2.0) == 2
    callers.callers, callers.rate = 32, steady(30_000.0, 20_000.0)
    assert callers.live(1.0) == 1


def test_relays_win_where_a_nudge_brings_callers_out_of_step_for_good() -> None:
    """After the first try one relay is as good: two keep it so."""
    nudged = False

    def rate(count: int) -> float:
        nonlocal nudged
        nudged |= count == 2
        return 9500.0 if nudged else 7000.0

    assert Callers(rate).live(3.0) == 2


@pytest.mark.parametrize(
    ("callers", "busy", "slots"),
    [(8, 0.95, 1), (1, 0.2, 1), (3, 0.2, 2)],
    ids=["worker is not idle", "lone caller", "one row a slot"],
)
def test_relays_are_not_tried_where_they_could_gain_nothing(
    callers: int, busy: float, slots: int
) -> None:
    lone = Callers(steady(7000.0, 9500.0), callers, busy, slots)
    assert lone.live(5.0) == 1
    assert lone.seen[2] == 0.0


def test_relays_are_seldom_tried_while_callers_come_and_go() -> None:
    callers = Callers(steady(30_000.0, 20_000.0))
    source = random.Random(2)
    for _ in range(600):
        callers.callers = source.choice((2, 4, 8, 16, 32))
        callers.live(0.1)
    assert callers.relays.count == 1
    assert callers.seen[2] < 0.05 * 60
