"""Lists of devices: what they mean, and what is wrong with one that means nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.devices import BACKENDS, KINDS, SLOTS, Device, Where, devices_text, parse_devices
from serving.errors import ConfigError
from serving.gears import most_rows, next_gear


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("cpu", {"cpu": None}),
        (" CPU , gpu ", {"cpu": None, "gpu": None}),
        ("gpu:0,gpu:1", {"gpu": (0, 1)}),
        ("ascend:2-4", {"ascend": (2, 3, 4)}),
        ("gpu:3,cpu,ascend:0-1,gpu:1", {"gpu": (3, 1), "cpu": None, "ascend": (0, 1)}),
        ("gpu:5-5", {"gpu": (5,)}),
    ],
)
def test_list_of_devices_names_kinds_and_numbers(text: str, kinds: dict[str, object]) -> None:
    asked = parse_devices(text)
    assert asked.kinds == kinds
    assert not asked.auto
    assert asked.cpu is ("cpu" in kinds)
    assert asked.probed == tuple(kind for kind in kinds if kind != "cpu")


@pytest.mark.parametrize("text", ["auto", "AUTO", " auto "])
def test_auto_asks_for_the_cpu_and_looks_for_all_others(text: str) -> None:
    asked = parse_devices(text)
    assert asked.auto
    assert asked.cpu
    assert asked.probed == ("gpu", "ascend")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("npu:0", "a device 'npu:0' that is not known"),
        ("gpus", "did you mean 'gpu'?"),
        ("cuda:0", "that is not known"),
        ("", "missing"),
        ("cpu,,gpu", "missing"),
        ("cpu,", "missing"),
        ("cpu,auto", "'auto' stands alone"),
        ("auto:1", "'auto' stands alone"),
        ("cpu:0", "--workers says how many"),
        ("gpu:", "cannot be read"),
        ("gpu:a", "cannot be read"),
        ("gpu:0-", "cannot be read"),
        ("gpu:-1", "cannot be read"),
        ("gpu:3-1", "the range 3-1 is empty"),
        ("gpu:0-64", "more than 64"),
        ("gpu:99999", "cannot be read"),
        ("gpu,gpu", "'gpu' is named twice"),
        ("gpu:0,gpu", "'gpu' is named twice"),
        ("gpu,gpu:0", "'gpu' is named twice"),
        ("gpu:0-2,gpu:1", "'gpu:1' is named twice"),
        ("cpu,cpu", "'cpu' is named twice"),
    ],
)
def test_list_that_means_nothing_is_refused_with_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_devices(text)
    assert says in str(error.value)
    assert error.value.where == "--devices"
    assert error.value.expected


KINDS_ASKED = st.dictionaries(
    st.sampled_from(KINDS),
    st.none() | st.lists(st.integers(0, 9999), min_size=1, max_size=5, unique=True).map(tuple),
    min_size=1,
)


@given(KINDS_ASKED)
def test_list_that_was_read_is_written_so_that_it_reads_the_same(
    kinds: dict[str, tuple[int, ...] | None],
) -> None:
    text = ",".join(
        kind if numbers is None or kind == "cpu" else ",".join(f"{kind}:{n}" for n in numbers)
        for kind, numbers in kinds.items()
    )
    asked = parse_devices(text)
    assert devices_text(asked) == text
    assert parse_devices(devices_text(asked)) == asked


def test_where_holds_the_devices_of_its_kind_and_numbers() -> None:
    assert Where("gpu", (1, 2)).holds(Device("gpu", 2))
    assert not Where("gpu", (1, 2)).holds(Device("gpu", 0))
    assert not Where("gpu").holds(Device("ascend", 0))
    assert Where("gpu").holds(Device("gpu", 7))


def test_every_kind_has_a_backend_and_slots() -> None:
    assert set(BACKENDS) == set(SLOTS) == set(KINDS)


GEARS = st.lists(st.integers(1, 64), min_size=1, max_size=6, unique=True).map(sorted).map(tuple)


@given(GEARS, st.integers(1, 64))
def test_next_gear_is_the_smallest_that_takes_the_rows(gears: tuple[int, ...], rows: int) -> None:
    if rows > gears[-1]:
        with pytest.raises(ValueError, match="largest gear"):
            next_gear(gears, rows)
        return
    gear = next_gear(gears, rows)
    assert gear in gears
    assert gear >= rows
    assert not [other for other in gears if rows <= other < gear]


def test_engine_without_gears_takes_any_number_of_rows() -> None:
    assert next_gear(None, 7) == 7
    assert most_rows(None, 32) == 32
    assert most_rows((1, 8), 32) == 8
    assert most_rows((1, 64), 32) == 32
