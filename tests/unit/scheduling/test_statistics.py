"""What a line counts of its runs and requests."""

from __future__ import annotations

import pytest

from serving.channel.messages import Done
from serving.errors import ExecutionFailed, Overloaded
from serving.scheduling.statistics import LineStatistics, unanswered
from serving.statistics import LATENCY_BOUNDS_S, Runs, Unanswered


def test_statistics_add_runs_up_by_size() -> None:
    counted = LineStatistics()
    counted.ran(8, Done(1, 10, 100, 1000), 5.0)
    counted.ran(1, Done(2, 1, 2, 3), 6.0)
    counted.ran(8, Done(3, 10, 200, 3000), 7.0)
    assert counted.by_size() == (Runs(1, 1, 1, 2, 3), Runs(8, 2, 20, 300, 4000))
    assert (counted.runs, counted.batch_sizes, counted.latest_s) == (3, {1: 1, 8: 2}, 7.0)
    assert counted.infer_ns == 0, "requests that were not answered took no time"


def test_statistics_give_each_request_the_time_of_its_whole_run() -> None:
    counted = LineStatistics()
    done = Done(1, 10, 100, 1000)
    counted.answered(3, 0.25, 0.125, done)
    counted.answered(5, 0.5, 0.25, done)
    assert (counted.input_ns, counted.infer_ns, counted.output_ns) == (20, 200, 2000)
    assert (counted.rows, counted.success_s, counted.queue_s) == (8, 0.75, 0.375)


@pytest.mark.parametrize(
    ("took_s", "bucket"),
    [(0.0, 0), (LATENCY_BOUNDS_S[0], 0), (0.000101, 1), (0.001, 3), (30.0, 16), (30.1, 17)],
)
def test_statistics_count_a_time_in_the_first_bucket_that_bounds_it(
    took_s: float, bucket: int
) -> None:
    counted = LineStatistics()
    counted.answered(1, took_s, 0.0, Done(1, 0, 0, 0))
    assert sum(counted.latencies) == counted.latencies[bucket] == 1


def test_statistics_count_errors_by_kind_and_code() -> None:
    counted = LineStatistics()
    counted.fail(ExecutionFailed("no"), 0.5)
    counted.fail(ExecutionFailed("no", code="special"), 0.25)
    counted.fail(ExecutionFailed("no"), 0.25)
    counted.refuse(Overloaded("full", code="queue_full"))
    assert unanswered(counted.failed) == (
        Unanswered("execution_failed", "execution_failed", 2),
        Unanswered("execution_failed", "special", 1),
    )
    assert unanswered(counted.refused) == (Unanswered("overloaded", "queue_full", 1),)
    assert (counted.failures, counted.fail_s) == (3, 1.0)
