"""Shared memory: sealed, nameless, and writable only for whom it should be."""

import os

import numpy as np
import pytest

from serving.channel.arena import Arena, size_class
from serving.channel.segment import Segment
from serving.errors import Overloaded
from tests.shared_objects import names_of_servers


def test_segment_for_inputs_cannot_be_mapped_writable_elsewhere() -> None:
    before = names_of_servers()
    segment = Segment.create(1, 4096, writable_elsewhere=False)
    try:
        with pytest.raises(PermissionError):
            Segment.attach(1, 4096, os.dup(segment.fd), writable=True)
        reader = Segment.attach(1, 4096, os.dup(segment.fd), writable=False)
        segment.bytes[7] = 42
        assert reader.bytes[7] == 42
        with pytest.raises(ValueError, match="read-only"):
            reader.bytes[7] = 1
        with pytest.raises(PermissionError):
            os.ftruncate(segment.fd, 0)
        assert names_of_servers() == before
        reader.close()
    finally:
        segment.close()


def test_segment_for_outputs_is_written_by_the_other_side() -> None:
    segment = Segment.create(1, 4096, writable_elsewhere=True)
    writer = Segment.attach(1, 4096, os.dup(segment.fd), writable=True)
    writer.bytes[:4] = np.arange(4)
    assert segment.bytes[:4].tolist() == [0, 1, 2, 3]
    writer.close()
    segment.close()


def test_arena_classes_waste_less_than_a_quarter_above_a_mebibyte() -> None:
    assert size_class(1) == size_class(64 << 10) == 64 << 10
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
