"""A receiver looks out for a message for a moment, and seldom where none comes in that time."""

from __future__ import annotations

import os

import pytest

from serving.channel import busy_poll as module
from serving.channel.busy_poll import BusyPoll

LIMIT_US = 100


class Clock:
    """Time as the test has it; it passes when the core is given away."""

    def __init__(self) -> None:
        self.ns = 10**12

    def __call__(self) -> int:
        return self.ns

    def give_way(self) -> None:
        self.ns += 500


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock by which everything goes."""
    clock = Clock()
    monkeypatch.setattr(module, "perf_counter_ns", clock)
    monkeypatch.setattr(os, "sched_yield", clock.give_way)
    return clock


def wait(clock: Clock, poll: BusyPoll, gap_us: float) -> tuple[bool, float]:
    """Wait for a message that comes after ``gap_us``; return whether it was met, and after what."""
    began = clock.ns
    met = poll.look_out(lambda _ms: clock.ns - began >= gap_us * 1000)
    return met, (clock.ns - began) / 1000


def test_busy_poll_meets_messages_that_come_soon(clock: Clock) -> None:
    poll = BusyPoll(LIMIT_US)
    assert [wait(clock, poll, gap) for gap in (0.0, 40.0, 99.0)] == [
        (True, 0.0),
        (True, 40.0),
        (True, 99.0),
    ]


def test_busy_poll_gives_up_at_its_limit(clock: Clock) -> None:
    met, spent_us = wait(clock, BusyPoll(LIMIT_US), 5_000.0)
    assert not met
    assert LIMIT_US <= spent_us < LIMIT_US + 5


def test_busy_poll_is_tried_ever_more_seldom_where_nothing_comes(clock: Clock) -> None:
    poll = BusyPoll(LIMIT_US)
    tried = [number for number in range(300) if wait(clock, poll, 5_000.0)[1]]
    assert tried == [0, 2, 5, 10, 19, 36, 69, 134, 199, 264]


def test_busy_poll_is_itself_again_after_one_that_came(clock: Clock) -> None:
    poll = BusyPoll(LIMIT_US)
    while not wait(clock, poll, 5_000.0)[1]:
        pass
    while not wait(clock, poll, 40.0)[0]:
        pass
    assert all(wait(clock, poll, 40.0)[0] for _ in range(50))
    assert [wait(clock, poll, 5_000.0)[1] > 0 for _ in range(3)] == [True, False, True]
