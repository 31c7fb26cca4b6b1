"""How many waiting requests a free slot takes."""

import pytest

from serving.scheduling.batcher import Decision, Limits, Waiting, decide
from serving.scheduling.placement import SlotView, choose


@pytest.mark.parametrize(
    ("rows", "slots", "most", "wanted"),
    [
        ([], 1, 8, Decision()),
        ([1], 1, 8, Decision(1)),
        ([1] * 8, 1, 8, Decision(8)),
        ([1] * 8, 2, 8, Decision(4)),
        ([1] * 9, 2, 4, Decision(4)),
        ([3, 3, 3], 1, 8, Decision(2)),
        ([20], 1, 8, Decision(1, part_rows=8)),
        ([20], 4, 8, Decision(1, part_rows=5)),
    ],
)
def test_batcher_takes_its_share(rows: list[int], slots: int, most: int, wanted: Decision) -> None:
    assert decide(Waiting(rows, sum(rows), 0.0, False), slots, Limits(most, 0.0)) == wanted


def test_batcher_waits_for_company_only_while_it_may_and_needs_to() -> None:
    limits = Limits(8, 0.5)
    assert decide(Waiting([1], 1, 0.25, False), 1, limits) == Decision(wait_s=0.25)
    assert decide(Waiting([1], 1, 0.5, False), 1, limits) == Decision(1)
    assert decide(Waiting([1], 1, 0.25, True), 1, limits) == Decision(1)
    assert decide(Waiting([1] * 8, 8, 0.25, False), 1, limits) == Decision(8)


def test_placement_prefers_the_idle_worker_then_the_latest_used() -> None:
    assert choose([]) is None
    assert choose([SlotView(0, 1, 0), SlotView(1, 0, 5), SlotView(2, 0, 9)]) == 2


def test_batcher_counts_what_slots_run_as_part_of_the_shares() -> None:
    limits = Limits(32)
    assert decide(Waiting([1] * 4, 4, 0.0, False, running_rows=4), 2, limits) == Decision(4)
    assert decide(Waiting([1] * 4, 4, 0.0, False, running_rows=0), 2, limits) == Decision(2)


def test_batcher_takes_no_more_than_a_batch_gains_from() -> None:
    assert decide(Waiting([1] * 30, 30, 0.0, False, best_rows=8), 1, Limits(32)) == Decision(8)
    assert decide(Waiting([12, 1], 13, 0.0, False, best_rows=8), 1, Limits(32)) == Decision(1)


def test_batcher_waits_for_expected_company_until_it_is_quiet_for_too_long() -> None:
    def waiting(rows: int, quiet_s: float, closed: bool = False) -> Waiting:
        return Waiting([1] * rows, rows, 0.1, closed, 4, 32, 4 - rows, quiet_s, 0.5)

    assert decide(waiting(1, 0.125), 2, Limits(32)) == Decision(wait_s=0.375)
    assert decide(waiting(1, 0.5), 2, Limits(32)) == Decision(1, in_vain=True)
    assert decide(waiting(4, 0.125), 2, Limits(32)) == Decision(4)
    assert decide(waiting(1, 0.125, closed=True), 2, Limits(32)) == Decision(1)
    # A delay that settings name is all the waiting there is.
    assert decide(waiting(1, 0.25), 2, Limits(32, 0.05)) == Decision(wait_s=0.25)


def test_batcher_looks_again_at_the_next_turn_while_the_loop_may_bring_more() -> None:
    def waiting(rows: int, **more: bool | int) -> Waiting:
        return Waiting([1] * rows, rows, 0.0, lingers=True, **{"closed": False, **more})  # type: ignore[arg-type]

    assert decide(waiting(3), 1, Limits(32)) == Decision(wait_s=0.0)
    assert decide(waiting(3, closed=True), 1, Limits(32)) == Decision(3)
    assert decide(waiting(8, best_rows=8), 1, Limits(32)) == Decision(8)


def test_batcher_takes_fewer_rows_where_those_behind_gain_less_than_those_within_lose() -> None:
    def rows(total: int, fixed_s: float, row_s: float, busy: float, slots: int = 1) -> int:
        waiting = Waiting(
            [1] * total, total, 0.0, False, fixed_s=fixed_s, row_s=row_s, busy=busy
        )  # fmt: skip
        return decide(waiting, slots, Limits(32)).requests

    # Alone 3 s: two by two they end after 5 s both, one by one after 3 and 6.
    assert rows(2, 1.0, 2.0, 0.0) == 1
    # sqrt(8 * 1 / 2) = 2: ends at 5, 10, 15, 20 s (mean 12.5); singles have 13.5, fours 13.5.
    assert rows(8, 1.0, 2.0, 0.0) == 2
    # Busy for three quarters of the time, eight stand for 32: sqrt(32 / 2) = 4.
    assert rows(8, 1.0, 2.0, 0.75) == 4
    assert rows(8, 1.0, 2.0, 0.75, slots=2) == 3  # sqrt(8) rounded up
    # Under full load the largest batch that pays; where rows cost little, all that wait.
    assert rows(8, 1.0, 2.0, 1.0) == 8
    assert rows(8, 1.0, 0.125, 0.0) == 8
    # What a row costs is not known yet.
    assert rows(8, 1.0, 0.0, 0.0) == 8


def test_batcher_leaves_the_size_alone_where_settings_ask_to_wait_for_company() -> None:
    waiting = Waiting([1] * 8, 8, 0.5, False, fixed_s=1.0, row_s=2.0, busy=0.0)
    assert decide(waiting, 1, Limits(32, 0.25)) == Decision(8)
    assert decide(waiting, 1, Limits(32, 0.0)) == Decision(2)
