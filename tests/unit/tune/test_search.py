"""The search on machines made of formulas: near the best, stable, bounded, and never lucky."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.tune.goal import Goal, Sample
from serving.tune.race import Race
from serving.tune.search import BASELINES, Search
from serving.tune.setting import Setting, Space, space
from tests.unit.tune.machines import Machine, batches, carry_out, flat

SPACE = space((1, 2), (1,), cores=2, batched=True, rows_under_way=64, target_ms=None)
MOST = 250
"""Far above what searches take (about 100): they end by themselves."""


def every(values: Space) -> list[Setting]:
    names = list(values)
    return [
        Setting(**dict(zip(names, chosen, strict=True)))  # type: ignore[arg-type]
        for chosen in itertools.product(*values.values())
    ]


BEST_RATE = max(batches(setting)[0] for setting in every(SPACE))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.05])
@pytest.mark.parametrize(
    "start", [Setting(), Setting(1), Setting(4, workers=2), Setting(32, 5.0), Setting(2, 0.0, 1)]
)
def test_search_ends_near_the_best_from_anywhere(start, noise, seed):
    machine = Machine(batches, noise, seed=seed)
    found = machine.search(SPACE, start)
    worst = 0.9 if noise < 0.05 else 0.75
    assert batches(found.best)[0] >= worst * BEST_RATE
    assert machine.count <= MOST


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.1])
def test_tuning_changes_nothing_where_nothing_matters(noise):
    start = Setting(16, 1.0)
    changed = [
        seed
        for seed in range(20)
        if Machine(flat, noise, seed=seed).tune(SPACE, start, Goal()).setting != start
    ]
    assert len(changed) <= 1, changed


def test_searches_with_other_noise_come_to_the_same_setting():
    results = [
        Machine(batches, 0.03, seed=seed).search(SPACE, Setting(1)).best for seed in range(12)
    ]
    favourite = max(set(results), key=results.count)
    assert results.count(favourite) >= 10, results
    assert favourite == Setting(), "the default, which is within the margin of the best"


def test_search_from_its_own_result_stays_there():
    first = Machine(batches, 0.03, seed=1).search(SPACE, Setting(2)).best
    again = [Machine(batches, 0.03, seed=seed).search(SPACE, first).best for seed in range(12)]
    assert again.count(first) >= 10, again


def test_search_without_noise_takes_each_change_by_what_it_is_worth():
    machine = Machine(batches, noise=0.0, drift=0.0)
    found = machine.search(SPACE, Setting(1))
    taken = [d for d in found.decisions if d.taken]
    assert (taken[0].name, taken[0].old, taken[0].new) == ("max_batch_size", 1, 32)
    for decision in taken:
        won = decision.standings[decision.new]
        assert won.gain > 0.04
        assert won.good == won.rounds >= 3


@given(
    worth=st.dictionaries(
        st.sampled_from([("max_batch_size", v) for v in (1, 4, 8, 16, 64)]
                        + [("workers", 2), ("max_queue_delay_ms", 0.0)]),
        st.floats(-1.0, 1.0),
        max_size=5,
    ),
    noise=st.sampled_from([0.0, 0.02]),
    seed=st.integers(0, 1000),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_search_is_bounded_and_never_ends_below_its_start(worth, noise, seed):
    def truth(setting: Setting) -> tuple[float, float]:
        rate = 1000.0
        for (name, value), gain in worth.items():
            if setting.value(name) == value:
                rate *= 2**gain
        return rate, 64e3 / rate

    machine = Machine(truth, noise, drift=0.05, seed=seed)
    found = machine.search(SPACE, Setting())
    assert machine.count <= MOST
    assert truth(found.best)[0] >= 0.97 * truth(Setting())[0]
    best = max(truth(setting)[0] for setting in every(SPACE))
    assert truth(found.best)[0] >= 0.78 * best  # each coordinate may leave its margin


def test_search_measures_the_start_first_and_then_all_values_in_turns():
    search = Search(SPACE, Setting(8), Goal(), 2)
    steps = search.steps()
    asked = [next(steps)]
    machine = Machine(flat, 0.0, 0.0)
    while len(asked) < BASELINES + 10:
        asked.append(steps.send(machine.measure(asked[-1].setting)))
    assert [s.setting for s in asked[:BASELINES]] == [Setting(8)] * BASELINES
    first, second = asked[BASELINES : BASELINES + 5], asked[BASELINES + 5 :]
    delays = [step.setting.max_queue_delay_ms for step in first]
    assert sorted(d for d in delays if d is not None) == [0.0, 0.5, 2.0, 8.0]
    assert delays[2] is None, "the present one is in the middle"
    assert [step.setting for step in second] == [step.setting for step in reversed(first)]


def test_search_leaves_alone_what_cannot_be_loaded():
    def measure(setting: Setting) -> Sample:
        if setting.workers == 2:
            return Sample(0.0, 0.0, 1.0, "no memory")
        return Sample(*batches(setting))

    search = Search(SPACE, Setting(1), Goal(), 2)
    carry_out(search.steps(), measure)
    assert search.best.workers == 1
    assert search.best.max_batch_size > 1


def test_search_drops_a_change_that_a_later_one_made_needless():
    def truth(setting: Setting) -> tuple[float, float]:
        # One thread helps only as long as there is one worker.
        rate = 2000.0 if setting.workers == 2 else 1200.0 if setting.threads == 1 else 1000.0
        return rate, 10.0

    order = {"threads": (None, 1), "workers": (1, 2)}
    found = Machine(truth, 0.0, 0.0).search(order, Setting())
    assert found.best == Setting(workers=2)
    assert [d.new for d in found.decisions if d.taken] == [1, 2]
    (back,) = [d for d in found.decisions if d.needless]
    assert (back.name, back.old, back.new) == ("threads", None, 1)


def raced(search: Search, measure) -> tuple[Race, bool]:
    race = search.last_race()
    assert race is not None
    carry_out(search.run(race), measure)
    return race, race.winner is not None


def test_last_race_is_against_the_start_and_can_be_lost():
    search = Search(SPACE, Setting(), Goal(), 2)
    assert search.last_race() is None, "without a change there is none"
    search.best = Setting(64)
    race, won = raced(search, lambda setting: Sample(*flat(setting)))
    assert not won
    assert race.standing(Setting(64)).gain == 0.0
    assert set(search.samples) == {Setting(), Setting(64)}


def test_last_race_of_a_search_that_was_cut_short_is_with_what_led():
    def measure(setting: Setting) -> Sample:
        return Sample(3000.0 if setting.max_queue_delay_ms == 0.0 else 1000.0, 10.0)

    search = Search(SPACE, Setting(8), Goal(), 2)
    steps = search.steps()
    step = next(steps)
    for _ in range(BASELINES + 7):
        step = steps.send(measure(step.setting))
    steps.close()
    race, won = raced(search, measure)
    assert won
    assert race.winner == search.best == Setting(8, 0.0)
