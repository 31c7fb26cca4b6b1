"""Which kind of device is asked first, and for how much: what was learned of their speeds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.scheduling.placement import SlotView, choose
from serving.scheduling.speeds import Speeds


def learned(**row_ms: float) -> Speeds:
    speeds = Speeds()
    for kind, ms in row_ms.items():
        for rows in (1, 4, 2):
            speeds.ran(kind, rows, rows * ms / 1e3)
    return speeds


def test_kind_that_never_ran_is_tried_with_a_whole_batch() -> None:
    speeds = learned(gpu=1)
    assert speeds.row_s("cpu") == 0.0
    assert speeds.share("cpu", 32, 1) == 32


def test_kind_is_judged_by_the_best_of_its_first_runs() -> None:
    """The first waits for kernels that are compiled, or for a machine that does something else."""
    speeds = learned(cpu=8)
    for ms in (500, 1):
        speeds.ran("gpu", 1, ms / 1e3)
        assert speeds.row_s("gpu") == 0.0
    speeds.ran("gpu", 1, 3e-3)
    assert speeds.row_s("gpu") == 1e-3


def test_verdict_that_was_wrong_is_found_out() -> None:
    speeds = learned(gpu=30, cpu=8)
    runs = 0
    while speeds.row_s("gpu") > speeds.row_s("cpu"):
        speeds.ran("cpu", 1, 8e-3)
        runs += 1
    assert 100 < runs < 1000
    assert speeds.share("gpu", 32, 1) == 9  # what it was told to take is no guess
    speeds.ran("gpu", 1, 30e-3)
    assert 29e-3 < speeds.row_s("gpu") < 31e-3


def test_share_is_what_takes_as_long_as_a_batch_on_the_fastest() -> None:
    speeds = learned(cpu=8, gpu=1)
    assert speeds.share("gpu", 32, 1) == 32
    assert speeds.share("cpu", 32, 1) == 4
    assert learned(cpu=1000, gpu=1).share("cpu", 32, 1) == 1


def test_request_that_fits_a_batch_is_not_cut_for_a_slow_device() -> None:
    assert learned(cpu=8, gpu=1).share("cpu", 32, 20) == 20


def test_request_that_is_cut_anyhow_gives_a_slow_device_small_parts() -> None:
    assert learned(cpu=8, gpu=1).share("cpu", 32, 100) == 4


def test_latest_runs_count_most_and_empty_ones_nothing() -> None:
    speeds = learned(cpu=1)
    for _ in range(60):
        speeds.ran("cpu", 2, 2 * 5e-3)
    speeds.ran("cpu", 0, 9.0)
    assert 4.9e-3 < speeds.row_s("cpu") <= 5e-3


@given(
    st.dictionaries(
        st.sampled_from(["cpu", "gpu", "ascend"]), st.floats(1e-6, 10), min_size=1, max_size=3
    ),
    st.integers(1, 64), st.integers(1, 200),
)  # fmt: skip
def test_share_is_a_number_of_rows_that_a_run_may_have(
    row_ms: dict[str, float], most: int, first: int
) -> None:
    speeds = learned(**row_ms)
    for kind in ("cpu", "gpu", "ascend"):
        assert 1 <= speeds.share(kind, most, first) <= most
    fastest = min(row_ms, key=row_ms.__getitem__)
    assert speeds.share(fastest, most, first) == most


def test_free_worker_goes_first_then_the_faster_then_the_latest_used() -> None:
    slow, fast = SlotView(0, 0, 9, 5e-3), SlotView(1, 0, 3, 1e-3)
    assert choose([slow, fast]) == 1
    assert choose([slow, SlotView(1, 1, 3, 1e-3)]) == 0  # its other slot is busy
    assert choose([fast, SlotView(2, 0, 7, 1e-3)]) == 2
