"""What counts as better: rates, latencies, targets and noise, with figures worked out by hand."""

from __future__ import annotations

import math

import pytest

from serving.tune.goal import Goal, Sample, judge, margin, noise


def rates(*values: float, p99_ms: float = 10.0) -> list[Sample]:
    return [Sample(value, p99_ms) for value in values]


def p99s(*values: float, rate: float = 100.0) -> list[Sample]:
    return [Sample(rate, value) for value in values]


def test_gain_is_the_logarithm_of_the_rates():
    assert Goal().gains(rates(200, 50), rates(100, 100)) == pytest.approx(
        [math.log(2), -math.log(2)]
    )


def test_gain_at_a_fixed_rate_is_that_of_the_p99():
    goal = Goal(fixed_rate=True)
    assert goal.gains(p99s(5), p99s(10)) == pytest.approx([math.log(2)])


def test_target_is_kept_or_missed_by_the_median():
    goal = Goal(target_ms=20)
    assert goal.meets(p99s(19, 19, 90))
    assert not goal.meets(p99s(19, 21, 22))
    assert not goal.meets([])


def test_a_sample_with_errors_meets_nothing():
    assert not Goal().meets([Sample(1000, 1, failed=0.01)])
    assert Goal().meets([Sample(1000, 1, failed=0.0005)])


def test_a_faster_setting_that_misses_the_target_is_not_better():
    goal = Goal(target_ms=20)
    fast = [Sample(2000, 25)] * 3
    slow = [Sample(1000, 15)] * 3
    assert judge(goal, fast, slow, 0.0) is False
    assert judge(goal, slow, fast, 0.0) is True


def test_of_two_that_miss_the_target_the_one_with_the_shorter_p99_is_better():
    goal = Goal(target_ms=5)
    assert judge(goal, p99s(10, 10, 10, rate=1), p99s(20, 20, 20, rate=9), 0.0) is True


def test_noise_is_the_deviation_of_a_gain():
    # Steps of 0.1, 0.1 and 2.0 in the logarithm: 1.4826 times their median (normal noise).
    series = [[Sample(math.exp(x), 1) for x in (0.0, 0.1, 0.0, 2.0)]]
    assert noise(series, latency=False) == pytest.approx(0.14826)
    assert noise([rates(5)], latency=False) == 0.0


def test_margin_is_five_percent_and_more_where_it_is_noisy():
    assert margin(3, 0.0, latency=False) == pytest.approx(math.log(1.05))
    assert margin(3, 0.0, latency=True) == pytest.approx(math.log(1.10))
    assert margin(4, 0.1, latency=False) == pytest.approx(2.5 * 1.25 * 0.1 / 2)


@pytest.mark.parametrize(
    ("new", "verdict"),
    [
        ((90,), False),
        ((120,), None),
        ((120, 120), None),
        ((101, 101), False),
        ((120, 120, 120), True),
        ((103, 103, 103), False),
        ((120, 120, 90), None),
        ((120, 120, 90, 120, 120), True),
        ((120, 120, 90, 90, 120), False),
    ],
)
def test_judge_says_no_early_and_yes_after_three_rounds(new, verdict):
    old = rates(*[100.0] * len(new))
    assert judge(Goal(), rates(*new), old, 0.0) is verdict


def test_judge_asks_more_of_a_noisy_machine():
    new, old = rates(110, 110, 110), rates(100, 100, 100)
    assert judge(Goal(), new, old, 0.01) is True
    assert judge(Goal(), new, old, 0.10) is False


def test_judge_never_takes_what_did_not_run():
    broken = [Sample(0.0, 0.0, 1.0, "no memory")]
    assert judge(Goal(), broken, rates(100), 0.0) is False
