"""Tunings of one servable on an uneven machine, by many seeds: they come to the same settings."""

from __future__ import annotations

import collections
import itertools
from statistics import fmean

import pytest

from serving.tune.goal import Goal
from serving.tune.setting import DEFAULT, Setting, Space, space
from serving.tune.tuner import Outcome
from tests.unit.tune.machines import Machine, Truth, flat, server

SEEDS = range(50)
MOST_STRAY = 2
"""Of 50: 95 % come to the same setting, or near the best."""

SPACE = space((1, 2), (1,), cores=2, batched=True, rows_under_way=64, target_ms=None)
LIGHT = server(request_us=60, run_us=80, row_us=5)
HEAVY = server(request_us=60, run_us=300, row_us=1600)
GATHERING = server(request_us=60, run_us=4000, row_us=100)
SMALL_ONES = server(request_us=60, run_us=300, row_us=300, knee=4)


def every(values: Space) -> list[Setting]:
    names = list(values)
    return [
        Setting(**dict(zip(names, chosen, strict=True)))  # type: ignore[arg-type]
        for chosen in itertools.product(*values.values())
    ]


def uneven(truth: Truth, seed: int) -> Machine:
    """A machine that drifts by 12 % and more, with 3 % of noise and a hiccup in 12."""
    return Machine(truth, noise=0.03, drift=0.12, seed=seed, hiccups=0.08)


def outcomes(truth: Truth, start: Setting, goal: Goal = Goal()) -> list[Outcome]:  # noqa: B008
    return [uneven(truth, seed).tune(SPACE, start, goal) for seed in SEEDS]


@pytest.mark.parametrize(
    ("truth", "start", "wanted"),
    [
        (flat, DEFAULT, DEFAULT),
        (LIGHT, DEFAULT, DEFAULT),
        (HEAVY, DEFAULT, DEFAULT.having("workers", 2)),
        (GATHERING, DEFAULT, DEFAULT.having("max_batch_size", 64)),
        (SMALL_ONES, DEFAULT, Setting(4, None, None, 2)),
        (LIGHT, Setting(128, 5.0), Setting(128)),
    ],
    ids=["flat", "light", "heavy", "gathering", "small-ones", "from-a-long-delay"],
)
def test_tunings_come_to_the_one_setting_that_is_clearly_best(truth, start, wanted):
    found = collections.Counter(outcome.setting for outcome in outcomes(truth, start))
    assert found[wanted] >= len(SEEDS) - MOST_STRAY, found


@pytest.mark.parametrize(
    ("truth", "start"),
    [(LIGHT, Setting(1)), (LIGHT, Setting(4, 2.0)), (HEAVY, Setting(1, 0.0, 1, 2)),
     (GATHERING, Setting(8)), (SMALL_ONES, Setting(64))],
)  # fmt: skip
def test_tunings_end_near_the_best_where_several_settings_are(truth, start):
    best = max(truth(setting)[0] for setting in every(SPACE))
    rates = [truth(outcome.setting)[0] for outcome in outcomes(truth, start)]
    assert sum(rate >= 0.95 * best for rate in rates) >= len(SEEDS) - MOST_STRAY


def test_tunings_for_a_target_come_to_the_largest_batch_that_keeps_it():
    def truth(setting: Setting) -> tuple[float, float]:
        rows = setting.max_batch_size
        return 1000.0 * rows**0.5, 0.25 * rows**2

    goal = Goal(target_ms=30.0)  # 16 ms of 8 rows keep it, 64 ms of 16 do not
    for start in (Setting(64), DEFAULT):
        found = outcomes(truth, start, goal)
        assert sum(o.setting == Setting(8) for o in found) >= len(SEEDS) - MOST_STRAY
        assert all(outcome.met for outcome in found)


def test_tunings_on_an_even_machine_end_early():
    machines = [Machine(HEAVY, noise=0.01, drift=0.03, seed=seed) for seed in SEEDS]
    found = {machine.tune(SPACE, DEFAULT, Goal()).setting for machine in machines}
    assert found == {DEFAULT.having("workers", 2)}
    assert fmean(machine.count for machine in machines) < 100
