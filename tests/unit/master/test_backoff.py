"""When a worker is started again."""

from serving.master.backoff import restart_delay


def test_backoff_is_free_twice_then_doubles_to_half_a_minute() -> None:
    delays = [restart_delay([100.0] * n, 100.0) for n in range(1, 13)]
    assert delays == [0, 0, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]


def test_backoff_forgets_ends_of_more_than_a_minute_ago() -> None:
    assert restart_delay([0.0, 1.0, 2.0, 100.0], 100.0) == 0
