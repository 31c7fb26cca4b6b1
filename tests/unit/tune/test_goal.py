"""What counts as better: rates, latencies, targets and noise, with figures worked out by hand."""

from __future__ import annotations

import math

import pytest

from serving.tune.goal import AGAIN, MOST_ROUNDS, Goal, Sample, judge, noise


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
    assert goal.meets(p99s(19, 90)), "one of two may be a hiccup"
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


def test_errors_alone_do_not_make_p99_decide():
    broken = [Sample(0.0, 0.0, 1.0, "no memory")]
    assert not Goal().compares_latency(broken, rates(100))
    assert Goal(target_ms=5).compares_latency(p99s(10), p99s(1))


def test_noise_is_the_deviation_of_a_gain():
    # Steps of 0.1, 0.1 and 2.0 in the logarithm: 1.4826 times their median (normal noise).
    series = [[Sample(math.exp(x), 1) for x in (0.0, 0.1, 0.0, 2.0)]]
    assert noise(series, [], latency=False) == pytest.approx(0.14826)
    assert noise([rates(5)], [], latency=False) == 0.0


def test_noise_of_turns_is_what_gains_differ_by_and_no_drift():
    # Gains of 0.3, 0.5 and 0.3: the difference of two has the deviation of one times root 2.
    old = [Sample(math.exp(x), 1) for x in (0.0, 1.0, 2.0)]
    new = [Sample(math.exp(x), 1) for x in (0.3, 1.5, 2.3)]
    assert noise([], [[(new, old)]], latency=False) == pytest.approx(0.2 / math.sqrt(2) * 1.4826)


@pytest.mark.parametrize(
    ("new", "verdict"),
    [
        ((120,), None),
        ((90, 90), False),
        ((60, 120), None),
        ((120, 120), None),
        ((120, 120, 120), True),
        ((101, 101, 101), False),
        ((102, 102, 102), False),
        ((120, 120, 60), None),
        ((60, 60, 120), None),
        ((60, 60, 120, 60, 60, 60, 60), False),
        ((120, 120, 60, 120, 120, 120, 120), True),
        ((120, 60, 60, 120, 120, 120, 60), None),
        ((103,) * 9, False),
    ],
)
def test_judge_says_yes_after_three_rounds_and_is_not_deceived_by_hiccups(new, verdict):
    old = rates(*[100.0] * len(new))
    assert judge(Goal(), rates(*new), old, 0.0) is verdict


def test_judge_asks_for_more_rounds_on_a_noisy_machine_but_not_for_ever():
    for rounds in range(3, MOST_ROUNDS):
        new, old = rates(*[109.0] * rounds), rates(*[100.0] * rounds)
        assert judge(Goal(), new, old, 0.01) is True
        # 3 times 1.25 * 0.08 / sqrt(16) is a gain of 8 %: just within reach, at the end.
        assert judge(Goal(), new, old, 0.08) is not False
    most, hundred = rates(*[109.0] * MOST_ROUNDS), rates(*[100.0] * MOST_ROUNDS)
    assert judge(Goal(), most, hundred, 0.08) is True
    assert judge(Goal(), most, hundred, 0.12) is False


def test_what_was_shown_once_takes_half_as_much():
    new, old = rates(*[103.0] * 9), rates(*[100.0] * 9)
    assert judge(Goal(), new, old, 0.01) is False
    assert judge(Goal(), new, old, 0.01, AGAIN) is True


def test_judge_never_takes_what_did_not_run():
    broken = [Sample(0.0, 0.0, 1.0, "no memory")]
    assert judge(Goal(), broken * 3, rates(100, 100, 100), 0.0) is False
