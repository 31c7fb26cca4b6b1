"""How long a queue takes to empty, learned from the runs that end while somebody waits."""

from __future__ import annotations

import pytest

from serving.scheduling.drain import Drain


def test_drain_knows_nothing_before_two_busy_endings() -> None:
    drain = Drain()
    assert drain.wait_s(5) is None
    assert drain.text(5) == ""
    assert drain.retry_after_s(5) == 1.0
    drain.landed(4, 10.0, busy=True)
    assert drain.wait_s(5) is None


def test_drain_learns_the_pace_between_endings() -> None:
    drain = Drain()
    for turn in range(10):
        drain.landed(4, 10.0 + turn * 0.2, busy=True)  # 4 rows in 0.2 s
    assert drain.wait_s(10) == pytest.approx(0.5)
    assert drain.text(10) == "about 0.5 s of waiting"
    assert drain.text(1000) == "about 50 s of waiting"
    assert drain.text(0) == ""
    assert drain.retry_after_s(10) == pytest.approx(0.5)
    assert drain.retry_after_s(10_000) == 30.0
    assert drain.retry_after_s(0) == 0.05


def test_drain_does_not_say_a_wait_that_is_none() -> None:
    drain = Drain()
    for turn in range(3):
        drain.landed(100, 10.0 + turn * 0.001, busy=True)  # 10 µs a row
    assert drain.text(100) == "less than 0.01 s of waiting"


def test_drain_does_not_take_an_idle_time_for_a_slow_run() -> None:
    drain = Drain()
    drain.landed(1, 10.0, busy=True)
    drain.landed(1, 10.1, busy=False)  # nobody waits: what comes next is a pause, not a run
    drain.landed(1, 99.0, busy=True)
    drain.landed(1, 99.1, busy=True)
    assert drain.wait_s(1) == pytest.approx(0.1)


def test_drain_follows_a_model_that_has_become_slower() -> None:
    drain = Drain()
    now = 0.0
    for pace_s in (0.1, 0.4):
        for _ in range(60):
            now += pace_s
            drain.landed(1, now, busy=True)
    assert drain.wait_s(1) == pytest.approx(0.4, rel=0.01)
