"""What gears leave of a batcher's decision: never beyond the largest, never over waiting rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.gears import next_gear
from serving.scheduling.batcher import Limits
from serving.scheduling.filling import limits_on, part_on, spare_rows

GEARS = st.lists(st.integers(1, 64), min_size=1, max_size=6, unique=True).map(sorted).map(tuple)


@given(GEARS, st.integers(1, 128), st.none() | st.floats(0, 1))
def test_limit_of_a_slot_is_no_more_than_its_largest_gear(
    gears: tuple[int, ...], most: int, delay_s: float | None
) -> None:
    limits = limits_on(Limits(most, delay_s), gears)
    assert limits.max_batch_size == min(most, gears[-1])
    assert limits.max_queue_delay_s == delay_s


def test_slot_without_gears_keeps_the_limits() -> None:
    limits = Limits(32, 0.5)
    assert limits_on(limits, None) is limits
    assert part_on(13, 100, None) == 13
    assert spare_rows(None) == 0


@given(GEARS, st.integers(1, 64), st.integers(1, 200))
def test_part_of_a_large_request_fills_a_gear_unless_it_is_the_last(
    gears: tuple[int, ...], part: int, left: int
) -> None:
    part = min(part, gears[-1])
    taken = part_on(part, left, gears)
    assert 1 <= taken <= left
    assert taken in gears or taken == left
    assert next_gear(gears, taken) - taken <= spare_rows(gears)
