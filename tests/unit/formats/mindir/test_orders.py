"""Medians, ranks, places and sequences agree with numpy and loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.one_node import Array, Fixed, agrees, floats, like, run_node


def lower_median(x: Array, axis: int) -> tuple[Array, Array]:
    """Return the lower median along an axis, which stays, and where it is."""
    at = np.argsort(x, axis, kind="stable").take([(x.shape[axis] - 1) // 2], axis)
    return np.take_along_axis(x, at, axis), at


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_median_along_an_axis(tmp_path: Path, dtype: str, axis: int, keep: bool) -> None:
    x = np.random.default_rng(2).permutation(60).reshape(3, 4, 5).astype(dtype)
    value, place = lower_median(x, axis)
    if not keep:
        value, place = value.squeeze(axis), place.squeeze(axis)
    settings: dict[str, Any] = {"global_median": False, "axis": axis, "keep_dims": keep}
    found = run_node(tmp_path, "Median", [x], like(value, place), "2.0", **settings)
    agrees(found, value, place)


@pytest.mark.parametrize("count", [1, 4, 5])
def test_median_of_all_is_the_lower_of_the_middle(tmp_path: Path, count: int) -> None:
    x = floats(count, 3)
    want = np.asarray(np.sort(x, None)[(x.size - 1) // 2])
    found = run_node(tmp_path, "Median", [x], [("float32", ()), ("int64", ())], "2.0",
                     outputs=[0], global_median=True)  # fmt: skip
    agrees(found, want)
    agrees(run_node(tmp_path, "MedianExt", [x], like(want)), want)


def test_median_of_what_holds_nan_is_nan_and_its_place(tmp_path: Path) -> None:
    x = np.array([[1, 2, 3], [1, np.nan, np.nan]], "float32")
    want, place = np.array([2, np.nan], "float32"), np.array([1, 1])
    found = run_node(tmp_path, "MedianDim", [x, Fixed(-1), Fixed(False)], like(want, place))
    agrees(found, want, place)


def test_median_without_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"Median .* \(ignore_nan\)"):
        run_node(tmp_path, "Median", [floats(3, 2)], [("float32", ()), ("int64", ())], "2.0",
                 outputs=[0], ignore_nan=True)  # fmt: skip


def test_in_top_k_takes_equals_in(tmp_path: Path) -> None:
    x = np.array(
        [[1, 3, 2, 3], [1, 3, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3], [np.inf, 1, 2, 3]], "float32"
    )
    target = np.array([3, 2, 1, 7, 0], "int32")
    found = run_node(tmp_path, "InTopK", [x, target], ("bool", (5,)), "2.0", k=2)
    agrees(found, np.array([True, False, False, False, False]))


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("rows", [False, True])
def test_search_sorted_agrees_with_numpy(
    tmp_path: Path, right: bool, dtype: str, rows: bool
) -> None:
    row, values = np.array([1, 3, 3, 5], dtype), np.array([[0, 3, 5], [6, 4, 1]], dtype)
    side: Any = "right" if right else "left"
    sequences = np.stack([row, row + 1])
    if rows:
        want = np.stack([np.searchsorted(*p, side) for p in zip(sequences, values, strict=True)])
    else:
        want = np.searchsorted(row, values, side)
    given = [sequences if rows else row, values, Fixed(None)]
    found = run_node(tmp_path, "SearchSorted", given, ("int64", (2, 3)), dtype=35, right=right)
    agrees(found, want)


@pytest.mark.parametrize("dtype", ["int32", "float32", "int16"])
def test_unique_keeps_the_order_of_first_places(tmp_path: Path, dtype: str) -> None:
    x = np.array([5, 2, 5, 9, 2, 1], dtype)
    found = run_node(tmp_path, "Unique", [x], [(dtype, (-1,)), ("int32", (6,))])
    agrees(found, np.array([5, 2, 9, 1], dtype), np.array([0, 1, 0, 2, 1, 3], "int32"))


@pytest.mark.parametrize("axes", [(1, 0), (0, 1), (2, 0), (0, 2)])
def test_reverse_sequence_turns_the_beginning(tmp_path: Path, axes: tuple[int, int]) -> None:
    x, lengths = floats(3, 3, 3), np.array([2, 1, 3])
    time, batch = axes
    expected = x.copy()
    moved = np.moveaxis(expected, (batch, time), (0, 1))
    for i, n in enumerate(lengths):
        moved[i, :n] = moved[i, :n][::-1].copy()
    settings = {"seq_dim": time, "batch_dim": batch}
    found = run_node(tmp_path, "ReverseSequence", [x, lengths], like(x), "2.0", **settings)
    agrees(found, expected)
