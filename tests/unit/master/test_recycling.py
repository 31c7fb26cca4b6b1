"""When a worker's memory is reason to replace it."""

import pytest

from serving.master.recycling import Growth, outgrown


@pytest.mark.parametrize(
    ("held", "fresh", "limit", "replaced"),
    [
        (1000, 100, 0, False),  # no limit
        (500, 100, 500, False),
        (501, 100, 500, True),
        (501, 450, 500, False),  # a fresh one would be as large
        (600, 450, 500, True),
        (1200, 1000, 500, False),  # its models alone are over the limit
    ],
)
def test_worker_is_replaced_when_it_is_over_its_limit_and_has_grown(
    held: int, fresh: int, limit: int, replaced: bool
) -> None:
    assert outgrown(held, fresh, limit) is replaced


def test_memory_that_came_back_is_no_reason() -> None:
    growth = Growth(40)
    growth.loaded(1, 40, 240)
    assert growth.fresh_mb == 240
    growth.unloaded(1, 260, 55)
    assert (growth.leaked, growth.fresh_mb) == (False, 40)


def test_most_of_a_large_model_that_was_kept_is_a_reason() -> None:
    growth = Growth(40)
    growth.loaded(1, 40, 1040)
    growth.unloaded(1, 1040, 900)
    assert growth.kept_mb == 860
    assert growth.leaked


def test_little_that_is_kept_adds_up_over_unloads() -> None:
    growth = Growth(40)
    kept = []
    for number in range(10):
        held = 40 + 20 * number
        growth.loaded(number, held, held + 100)
        growth.unloaded(number, held + 100, held + 20)
        kept.append(growth.leaked)
    assert kept == [False] * 3 + [True] * 7  # 20, 40, 60 and then more than 64 MiB


def test_tenth_of_what_was_unloaded_may_stay() -> None:
    growth = Growth(40)
    growth.loaded(1, 40, 2040)
    growth.unloaded(1, 2040, 140)
    assert (growth.kept_mb, growth.leaked) == (100, False)


def test_memory_taken_by_runs_that_comes_back_makes_up_for_what_was_kept() -> None:
    growth = Growth(40)
    growth.loaded(1, 40, 140)
    growth.unloaded(1, 500, 40)
    assert growth.kept_mb == 0
