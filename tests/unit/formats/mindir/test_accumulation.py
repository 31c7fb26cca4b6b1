"""Running sums, products and extremes agree with loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.formats.mindir.mindir_files import RELEASES
from tests.unit.formats.mindir.one_node import Fixed, agrees, floats, like, run_node

Array = np.ndarray[Any, Any]


def accumulated(x: Array, axis: int, exclusive: bool, reverse: bool, product: bool) -> Array:
    rows = list(np.moveaxis(x, axis, 0))
    if reverse:
        rows.reverse()
    total = np.ones_like(rows[0]) if product else np.zeros_like(rows[0])
    found = []
    for row in rows:
        new = (total * row if product else total + row).astype(x.dtype)
        found.append(total if exclusive else new)
        total = new
    if reverse:
        found.reverse()
    return np.stack(found, axis)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("operator", ["CumSum", "CumProd"])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_running_total_agrees_with_a_loop(
    tmp_path: Path, release: str, operator: str, axis: int, exclusive: bool, reverse: bool
) -> None:
    x = floats(3, 4)
    found = run_node(
        tmp_path, operator, [x, Fixed(axis)], like(x), release, exclusive=exclusive,
        reverse=reverse,
    )  # fmt: skip
    agrees(found, accumulated(x, axis, exclusive, reverse, operator == "CumProd"))


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8", "float16", "float64"])
@pytest.mark.parametrize("operator", ["CumSum", "CumProd"])
def test_running_total_keeps_its_type_and_wraps(tmp_path: Path, operator: str, dtype: str) -> None:
    x = np.array([[100, 2, 3], [50, 60, 2]], dtype)
    if dtype == "float16":
        x = x / np.float16(64)
    with np.errstate(over="ignore"):
        expected = accumulated(x, 1, False, False, operator == "CumProd")
    found = run_node(tmp_path, operator, [x, Fixed(1)], like(x), exclusive=False, reverse=False)
    agrees(found, expected, rtol=2e-3)


def test_running_total_of_a_varying_length(tmp_path: Path) -> None:
    x = floats(3, 4)
    stated = ("float32", (-1, -1))
    found = run_node(
        tmp_path, "CumProd", [x, Fixed(1)], stated, varying=True, exclusive=False, reverse=False
    )
    agrees(found, np.cumprod(x, 1))


def test_cumsum_ext_counts_truth_values(tmp_path: Path) -> None:
    x = np.array([True, False, True])
    found = run_node(tmp_path, "CumsumExt", [x], ("int64", (3,)), dim=0, dtype=None)
    agrees(found, np.array([1, 1, 2], "int64"))


def extremes(x: Array, axis: int, greatest: bool) -> tuple[Array, Array]:
    rows = list(np.moveaxis(x, axis, 0))
    best, where = rows[0].copy(), np.zeros(rows[0].shape, int)
    values, places = [], []
    for i, row in enumerate(rows):
        for k in np.ndindex(row.shape):
            later = row[k] >= best[k] if greatest else row[k] <= best[k]
            if later or np.isnan(row[k]):
                best[k], where[k] = row[k], i
        values.append(best.copy())
        places.append(where.copy())
    return np.stack(values, axis), np.stack(places, axis)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("operator", ["Cummax", "Cummin"])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("release", RELEASES)
def test_running_extreme_names_the_last_of_equals(
    tmp_path: Path, operator: str, axis: int, dtype: str, release: str
) -> None:
    x = np.array([[1, 3, 3, 2], [4, 0, 4, 9], [4, 5, 1, 1]], dtype)
    if dtype == "float32":
        x[1, 1] = np.nan
    values, places = extremes(x, axis % 2, operator == "Cummax")
    expected = values, places.astype("int64")
    agrees(run_node(tmp_path, operator, [x], like(*expected), release, axis=axis), *expected)
