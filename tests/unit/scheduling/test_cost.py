"""What is learned about batch sizes from the times of runs."""

import pytest

from serving.scheduling.cost import RUN_OVERHEAD_S, Cost


def learned(seconds: dict[int, float], runs: int = 8) -> Cost:
    cost = Cost()
    for _ in range(runs):
        for rows, took in seconds.items():
            cost.ran(rows, took)
    return cost


def test_cost_allows_everything_before_it_knows_anything() -> None:
    assert Cost().best_rows(32) == 32
    cost = Cost()
    cost.ran(4, 0.001)
    assert cost.best_rows(32) == 32


def test_cost_of_a_model_that_gains_nothing_from_batches_keeps_rows_apart() -> None:
    assert learned({1: 0.0185, 2: 0.037, 4: 0.074}).best_rows(32) == 1


def test_cost_stops_where_larger_batches_get_slower() -> None:
    per_row = {1: 2.7, 2: 2.34, 4: 2.14, 8: 2.06, 16: 2.05, 32: 2.19}
    cost = learned({rows: rows * ms / 1e3 for rows, ms in per_row.items()})
    assert cost.best_rows(32) == 8
    assert cost.best_rows(6) == 6


def test_cost_tries_the_next_size_as_long_as_the_largest_known_is_the_best() -> None:
    assert learned({1: 20e-6, 2: 21e-6, 4: 22e-6}).best_rows(32) == 8


def test_cost_tries_smaller_sizes_where_all_runs_have_been_large() -> None:
    cost = learned({32: 32 * 2.19e-3})
    assert cost.best_rows(32) == 16
    assert learned({32: 32 * 2.19e-3, 16: 16 * 2.05e-3}).best_rows(32) == 8


def test_cost_tries_large_sizes_again_after_long() -> None:
    cost = learned({1: 0.01, 2: 0.02, 4: 0.09})
    assert cost.best_rows(32) == 1
    for _ in range(1024):
        cost.ran(1, 0.01)
    assert cost.best_rows(32) == 2


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
    for _ in range(200):
        cost.ran(1, 0.010)
        cost.ran(8, 0.080)
    assert cost.best_rows(32) == 1
