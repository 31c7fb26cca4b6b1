"""The cost model with invented figures whose outcome can be worked out by hand."""

from __future__ import annotations

import pytest

from serving.tune.forecast import (
    FrontCost,
    Load,
    Observation,
    RunsOfSize,
    WorkerCost,
    fit_front,
    fit_worker,
    forecast,
    machine_seconds,
    nonnegative,
)


def seen(
    requests: int, size: float, runs: dict[int, tuple[int, float]], front_s: float = 0.0
) -> Observation:
    by_rows = {rows: RunsOfSize(count, seconds) for rows, (count, seconds) in runs.items()}
    return Observation(requests, size, by_rows, front_s, 0.0, 0.0)


def test_front_cost_is_found_again():
    # 100 us a request, 1 ns a byte, 200 us a run.
    def cost(requests: int, size: float, runs: int) -> float:
        return requests * (100e-6 + size * 1e-9) + runs * 200e-6

    found = fit_front(
        [
            seen(1000, 500, {1: (1000, 1.0)}, cost(1000, 500, 1000)),
            seen(8000, 500, {16: (500, 1.0)}, cost(8000, 500, 500)),
            seen(2000, 60_000, {8: (2000, 1.0)}, cost(2000, 60_000, 2000)),
        ]
    )
    assert found.request_s == pytest.approx(100e-6)
    assert found.byte_s == pytest.approx(1e-9)
    assert found.run_s == pytest.approx(200e-6)
    assert found.seconds(1000, 0.5) == pytest.approx(201e-6)


def test_sizes_that_differ_by_little_are_not_told_apart():
    found = fit_front(
        [
            seen(1000, 500, {1: (1000, 1.0)}, 0.3),
            seen(1000, 500, {10: (100, 1.0)}, 0.12),
            seen(1000, 4000, {8: (1000, 1.0)}, 9.0),
        ]
    )
    assert found == FrontCost(pytest.approx(100e-6), 0.0, pytest.approx(200e-6))


def test_bytes_count_with_the_request_where_there_is_one_size_only():
    found = fit_front(
        [seen(1000, 500, {1: (1000, 1.0)}, 0.3), seen(1000, 500, {10: (100, 1.0)}, 0.12)]
    )
    assert found.byte_s == 0.0
    assert found.request_s == pytest.approx(100e-6)
    assert found.run_s == pytest.approx(200e-6)


def test_worker_cost_is_the_line_through_the_run_times():
    # 1 ms + 0.1 ms a row.
    found = fit_worker([seen(0, 0, {1: (10, 0.011)}), seen(0, 0, {10: (5, 0.010), 1: (10, 0.011)})])
    assert found.run_s == pytest.approx(1e-3)
    assert found.row_s == pytest.approx(1e-4)


def test_a_cost_is_never_below_nothing():
    # Larger runs were faster: all of it is the run's.
    found = fit_worker([seen(0, 0, {1: (10, 0.02), 8: (10, 0.01)})])
    assert found.row_s == 0.0
    assert found.run_s == pytest.approx(1.5e-3)


def test_one_size_alone_still_gives_a_cost_that_fits_it():
    found = fit_worker([seen(0, 0, {4: (100, 0.2)})])
    assert found.seconds(4) == pytest.approx(2e-3)


def test_nonnegative_leaves_out_a_column_that_says_nothing():
    assert nonnegative([[1, 1], [1, 1]], [2, 2], [1, 1]) == pytest.approx([2.0, 0.0])
    assert nonnegative([[0, 0]], [1, 1], [1, 1]) == [0.0]


FRONT = FrontCost(request_s=100e-6, byte_s=1e-9, run_s=160e-6)
WORKER = WorkerCost(run_s=2e-3, row_s=0.25e-3)
LOAD = Load(clients=64, request_bytes=50_000, request_rows=1, max_batch_size=16)


def test_workers_are_the_limit_of_a_heavy_model():
    # A run of 16 rows takes 2 + 16 * 0.25 = 6 ms: 2,667 a second for each worker.
    told = forecast(FRONT, WORKER, LOAD, fronts=1, workers=1)
    assert (told.bound, told.rows_per_run) == ("workers", 16)
    assert told.rate == pytest.approx(16 / 6e-3)
    assert forecast(FRONT, WORKER, LOAD, 1, 2).rate == pytest.approx(2 * 16 / 6e-3)


def test_front_ends_are_the_limit_of_many_workers():
    # A request takes 100 + 50 us, and 160 / 8 us of its run of 64 / 8 rows: 170 us.
    told = forecast(FRONT, WORKER, LOAD, fronts=1, workers=8)
    assert (told.bound, told.rows_per_run) == ("front ends", 8)
    assert told.rate == pytest.approx(1 / 170e-6)


def test_clients_are_the_limit_when_all_else_is_plenty():
    # Each waits 170 us for front ends and 4 ms for a run of 8 rows.
    told = forecast(FRONT, WORKER, LOAD, fronts=4, workers=8)
    assert told.bound == "clients"
    assert told.rate == pytest.approx(64 / (170e-6 + 4e-3))


def test_a_run_that_is_not_full_waits_as_settings_say():
    load = Load(clients=2, request_bytes=0, request_rows=1, max_batch_size=16, delay_s=0.1)
    told = forecast(FRONT, WORKER, load, fronts=1, workers=1)
    assert told.bound == "clients"
    assert told.rate == pytest.approx(2 / (100e-6 + 80e-6 + 0.1 + 2.5e-3))
    full = Load(clients=16, request_bytes=0, request_rows=1, max_batch_size=16, delay_s=0.1)
    told = forecast(FRONT, WORKER, full, fronts=1, workers=1)
    assert told.rate == pytest.approx(16 / (100e-6 + 10e-6 + 6e-3))


def test_requests_of_many_rows_are_counted_as_requests():
    load = Load(clients=4, request_bytes=0, request_rows=8, max_batch_size=16)
    told = forecast(FRONT, WORKER, load, fronts=1, workers=1)
    assert told.rate == pytest.approx(2 / 6e-3)  # 16 rows are two requests


def test_the_machine_bounds_what_runs_on_it():
    told = forecast(FRONT, WORKER, LOAD, 1, 1, machine=(2, 1e-3))
    assert (told.bound, told.rate) == ("cores", pytest.approx(2000))


def test_machine_seconds_count_every_process():
    told = Observation(1000, 10, {}, front_cpu_s=0.1, worker_cpu_s=0.3, generator_cpu_s=0.2)
    assert machine_seconds(told) == pytest.approx(0.6e-3)
