"""The busy part of a slot's time."""

import math

import pytest

from serving.scheduling.occupancy import Occupancy


def test_occupancy_of_a_slot_that_never_ran_is_nothing() -> None:
    assert Occupancy().share(1e6) == 0.0


def test_occupancy_nears_one_while_a_run_goes_on_and_nothing_after_it() -> None:
    slot = Occupancy()
    slot.began(100.0)
    assert slot.share(100.25) == pytest.approx(1 - 1 / math.e)
    assert slot.share(103.0) > 0.99
    slot.ended(100.02)
    before = slot.share(100.02)
    assert slot.share(100.27) == pytest.approx(before / math.e)
    assert slot.share(110.0) < 0.001


@pytest.mark.parametrize("run_s", [0.001, 0.02, 2.0])
@pytest.mark.parametrize("busy", [0.1, 0.5, 0.9])
def test_occupancy_of_steady_work_is_its_part_of_the_time(run_s: float, busy: float) -> None:
    slot, now, seen = Occupancy(), 50.0, []
    for _ in range(2000):
        slot.began(now)
        seen.append(slot.share(now))
        now += run_s
        slot.ended(now)
        seen.append(slot.share(now))
        now += run_s * (1 / busy - 1)
    assert sum(seen[-400:]) / 400 == pytest.approx(busy, abs=0.06)
