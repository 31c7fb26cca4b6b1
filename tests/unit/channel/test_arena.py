"""The arena keeps its budget, loses nothing, and gives everybody what it had before."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.channel import arena as arena_module
from serving.channel.arena import Arena, size_class
from serving.channel.segment import Segment
from serving.errors import Overloaded

BUDGET = 64 << 20
FEW = 3


@pytest.fixture
def arena(monkeypatch: pytest.MonkeyPatch) -> Iterator[Arena]:
    """An arena in which not more than a few segments are somebody's own."""
    monkeypatch.setattr(arena_module, "_OWN_SEGMENTS", FEW)
    made = Arena(BUDGET)
    yield made
    made.close()


def take(arena: Arena, user: int, size: int = 1) -> Segment:
    return arena.take(size, writable_elsewhere=True, user=user)


def test_arena_classes_waste_less_than_a_quarter_above_a_mebibyte() -> None:
    assert size_class(1) == size_class(16 << 10) == 16 << 10
    for size in (1 << 20, (1 << 20) + 1, 5_000_001, 1 << 30, (1 << 30) + 1):
        assert size <= size_class(size) <= size * 5 / 4


def test_arena_reuses_keeps_its_budget_and_closes_everything() -> None:
    closed: list[int] = []
    arena = Arena(256 << 10, closed.append)
    first = arena.take(100 << 10, writable_elsewhere=False)
    with pytest.raises(Overloaded) as refused:
        arena.take(200 << 10, writable_elsewhere=False)
    assert refused.value.code == "memory_budget_full"
    arena.give(first)
    assert arena.take(128 << 10, writable_elsewhere=False) is first
    arena.give(first)
    large = arena.take(200 << 10, writable_elsewhere=False)
    assert closed == [first.id]
    assert arena.used_bytes == 256 << 10
    arena.give(large)
    arena.trim()
    assert (arena.total_bytes, arena.used_bytes) == (0, 0)
    arena.take(1, writable_elsewhere=True)
    arena.close()
    assert len(closed) == 3


def test_what_is_larger_than_the_budget_is_not_told_to_come_back() -> None:
    arena = Arena(256 << 10)
    with pytest.raises(Overloaded) as refused:
        arena.take(300 << 10, writable_elsewhere=False)
    assert refused.value.retry_after_s is None
    assert "later" not in refused.value.fix
    assert "--memory-mb" in refused.value.fix
    held = arena.take(200 << 10, writable_elsewhere=False)
    with pytest.raises(Overloaded) as refused:
        arena.take(200 << 10, writable_elsewhere=False)
    assert refused.value.retry_after_s == 1.0
    arena.give(held)
    arena.close()


@pytest.mark.parametrize(
    ("call", "number", "told"),
    [
        ("serving.channel.segment.os.memfd_create", errno.EMFILE, "may open no more files"),
        ("serving.channel.segment.mmap.mmap", errno.EMFILE, "may open no more files"),
        ("serving.channel.segment.mmap.mmap", errno.ENOMEM, "no memory left"),
        ("serving.channel.segment.os.posix_fallocate", errno.ENOSPC, "no memory left"),
    ],
)
def test_request_is_refused_for_a_while_when_the_system_gives_no_more_memory(
    arena: Arena, monkeypatch: pytest.MonkeyPatch, call: str, number: int, told: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    files = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(call, refuse)
        with pytest.raises(Overloaded, match=told) as refused:
            take(arena, 1)
    assert (refused.value.code, refused.value.retry_after_s) == ("memory_budget_full", 1.0)
    assert (len(os.listdir("/proc/self/fd")), arena.total_bytes) == (files, 0)
    take(arena, 1)


def test_users_who_come_in_turns_have_small_segments_of_their_own(arena: Arena) -> None:
    first = [take_and_give(arena, user) for user in range(1, FEW + 1)]
    assert len({segment.id for segment in first}) == FEW
    for _ in range(2):
        assert [take_and_give(arena, user) for user in range(1, FEW + 1)] == first


def test_users_who_are_too_many_for_that_leave_all_but_one_theirs(arena: Arena) -> None:
    first = [take_and_give(arena, user) for user in range(1, FEW + 1)]
    others = [take_and_give(arena, user) for user in range(FEW + 1, 3 * FEW)]
    assert set(others) == {first[-1]}
    assert [take_and_give(arena, user) for user in range(1, FEW)] == first[:-1]
    assert arena.total_bytes == FEW * size_class(1)


def test_large_segments_are_used_by_whoever_comes(arena: Arena) -> None:
    size = size_class(1) + 1
    assert take_and_give(arena, 1, size) is take_and_give(arena, 2, size)


def test_own_segments_take_a_small_part_of_the_budget() -> None:
    arena = Arena(16 * size_class(1))
    for user in range(1, 10):
        take_and_give(arena, user)
    assert arena.total_bytes == 2 * size_class(1)
    arena.close()


def take_and_give(arena: Arena, user: int, size: int = 1) -> Segment:
    segment = take(arena, user, size)
    arena.give(segment)
    return segment


ACTIONS = st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=60)


@given(ACTIONS)
def test_nothing_is_lent_twice_or_lost(actions: list[tuple[int, bool]]) -> None:
    arena = Arena(BUDGET)
    lent: dict[int, list[Segment]] = {}
    held = 0
    latest: dict[int, Segment] = {}  # what is free, and was a user's last
    for user, takes in actions:
        mine = lent.setdefault(user, [])
        if takes:
            segment = take(arena, user)
            assert all(segment not in others for others in lent.values())
            if user in latest:
                assert segment is latest[user]
            mine.append(segment)
            for other in [who for who, had in latest.items() if had is segment]:
                del latest[other]
        elif mine:
            segment = mine.pop()
            arena.give(segment)
            latest[user] = segment
        held = sum(segment.size for segments in lent.values() for segment in segments)
        assert arena.used_bytes == held
    arena.trim()
    assert arena.total_bytes == arena.used_bytes == held
    arena.close()
