"""What is learned about batch sizes from the times of runs."""

from collections import Counter

import pytest

from serving.scheduling.cost import RUN_OVERHEAD_S, Cost


def learned(seconds: dict[int, float], runs: int = 8) -> Cost:
    cost = Cost()
    for _ in range(runs):
        for rows, took in seconds.items():
            cost.ran(rows, took)
    return cost


def settled(per_row_ms: dict[int, float], runs: int, cost: Cost | None = None) -> int:
    """Return the rows of most of the last runs, of so many whose sizes are what they should be."""
    cost = cost or Cost()
    sizes = []
    for _ in range(runs):
        rows = cost.best_rows(32, 64)
        cost.ran(rows, rows * per_row_ms[rows] / 1e3)
        sizes.append(rows)
    return Counter(sizes[-runs // 4 :]).most_common(1)[0][0]


def test_cost_allows_everything_before_it_knows_anything() -> None:
    assert Cost().best_rows(32, 64) == 32
    cost = Cost()
    cost.ran(4, 0.001)
    assert cost.best_rows(32, 64) == 32


def test_cost_of_a_model_that_gains_nothing_from_batches_keeps_rows_apart() -> None:
    assert learned({1: 0.0185, 2: 0.037, 4: 0.074}).best_rows(32, 64) == 1


def test_cost_stops_where_larger_batches_get_slower() -> None:
    per_row = {1: 2.7, 2: 2.34, 4: 2.14, 8: 2.06, 16: 2.05, 32: 2.19}
    cost = learned({rows: rows * ms / 1e3 for rows, ms in per_row.items()})
    assert cost.best_rows(32, 64) == 8
    assert cost.best_rows(6, 64) == 6


def test_cost_tries_the_next_size_as_long_as_the_largest_known_is_the_best() -> None:
    assert learned({1: 20e-6, 2: 21e-6, 4: 22e-6}).best_rows(32, 64) == 8


def test_cost_tries_smaller_sizes_where_all_runs_have_been_large() -> None:
    cost = learned({32: 32 * 2.19e-3})
    assert cost.best_rows(32, 64) == 16
    assert learned({32: 32 * 2.19e-3, 16: 16 * 2.05e-3}).best_rows(32, 64) == 8


def test_cost_tries_large_sizes_again_after_long() -> None:
    cost = learned({1: 0.01, 2: 0.02, 4: 0.09})
    assert cost.best_rows(32, 64) == 1
    for _ in range(1024):
        cost.ran(1, 0.01)
    assert cost.best_rows(32, 64) == 2


@pytest.mark.parametrize("least", [2, 3, 8])
def test_cost_of_requests_of_several_rows_does_not_wait_for_smaller_ones(least: int) -> None:
    """No run has fewer rows than a request; batches of several requests are tried all the same."""
    cost = Cost()
    for _ in range(200):
        rows = max(least, cost.best_rows(32, 64, least) // least * least)
        cost.ran(rows, 50e-6 + rows * 1e-6)
    assert cost.best_rows(32, 64, least) == 32


def test_cost_tries_no_larger_size_than_there_are_rows_for() -> None:
    cost = learned({1: 20e-6, 2: 21e-6, 4: 22e-6})
    assert [cost.best_rows(32, waiting) for waiting in (3, 4, 5, 8)] == [4, 4, 8, 8]


def test_cost_looks_behind_a_size_that_gains_nothing() -> None:
    """The engine's second thread is of no use to small batches."""
    per_row = {1: 2.30, 2: 2.30, 4: 2.29, 8: 2.05, 16: 1.40, 32: 1.33}
    assert settled(per_row, 4000) == 32


def test_cost_does_not_look_behind_a_size_that_is_much_worse() -> None:
    cost = learned({1: 1e-3, 2: 2.6e-3})
    assert cost.best_rows(32, 64) == 1


def test_cost_forgets_what_it_learned_of_a_machine_that_did_something_else() -> None:
    slow = {1: 2.4, 2: 2.4, 4: 2.0, 8: 2.07, 16: 2.06, 32: 2.21}
    cost = learned({rows: rows * ms / 1e3 for rows, ms in slow.items()})
    assert cost.best_rows(32, 64) == 4
    per_row = {1: 2.4, 2: 2.2, 4: 1.82, 8: 1.54, 16: 1.40, 32: 1.33}
    assert settled(per_row, 800, cost) == 32


def test_cost_tries_what_gains_nothing_ever_more_seldom() -> None:
    cost, tried = Cost(), Counter[int]()
    for run in range(40_000):
        rows = cost.best_rows(32, 64)
        cost.ran(rows, rows * 0.0055)
        if run >= 20_000:
            tried[rows] += 1
    assert tried[1] > 0.99 * tried.total()
    assert set(tried) > {1}


def test_cost_finds_what_a_run_costs_however_few_rows_it_has() -> None:
    cost = learned({1: 0.003, 8: 0.010})
    assert cost.fixed_s == pytest.approx(0.002 + RUN_OVERHEAD_S)
    assert learned({1: 0.002, 4: 0.010}).fixed_s == pytest.approx(RUN_OVERHEAD_S)


def test_cost_finds_what_each_row_adds() -> None:
    assert learned({1: 0.003, 8: 0.010}).row_s == pytest.approx(0.001)
    assert learned({1: 0.003, 8: 0.003}).row_s == 0.0
    assert learned({8: 0.010}).row_s == 0.0  # nothing to compare with


def test_cost_follows_a_machine_that_has_changed() -> None:
    cost = learned({1: 0.001, 8: 0.002})
    assert cost.best_rows(32, 64) > 1
    assert settled(dict.fromkeys((1, 2, 4, 8, 16, 32), 10.0), 2000, cost) == 1


@pytest.mark.parametrize("every", [5, 20])
def test_cost_hardly_heeds_runs_that_lost_their_core_for_a_moment(every: int) -> None:
    """Some runs of 420 us are kept up for 4 ms; batches of 16 pay all the same."""
    cost = Cost()
    for run in range(400):
        for rows in (1, 2, 4, 8, 16):
            late_s = 0.004 if rows == 16 and run % every == 0 else 0.0
            cost.ran(rows, 36e-6 + rows * 24e-6 + late_s)
    assert cost.best_rows(16, 64) == 16
    assert cost.row_s < 48e-6
