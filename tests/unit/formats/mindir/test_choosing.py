"""A choice among elements agrees with numpy's, in every type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.one_node import Fixed, agrees, floats, like, run_node

DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float16",
          "float32", "float64"]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_select_takes_every_type(tmp_path: Path, dtype: str) -> None:
    condition = np.array([True, False, True, False])
    x, y = np.array([[1, 0, 1, 1]] * 2, dtype), np.array([[0, 0, 1, 0]] * 2, dtype)
    expected = np.where(condition, x, y)
    agrees(run_node(tmp_path, "Select", [condition, x, y], like(expected)), expected)


def test_select_keeps_every_digit_of_long_numbers(tmp_path: Path) -> None:
    condition = np.array([True, False])
    x, y = np.array([2**62 + 1, 0]), np.array([0, -(2**61) - 1])
    agrees(run_node(tmp_path, "Select", [condition, x, y], like(x)), x + y)


def test_select_of_uint64_is_refused(tmp_path: Path) -> None:
    x = np.array([1], "uint64")
    with pytest.raises(LoadError, match="Select .* UINT64"):
        run_node(tmp_path, "Select", [np.array([True]), x, x], like(x))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("varying", [False, True])
def test_index_fill_counts_from_either_end(tmp_path: Path, axis: int, varying: bool) -> None:
    x, index = floats(3, 4, 5), np.array([0, -1, 0], "int32")
    expected = x.copy()
    np.moveaxis(expected, axis, 0)[index] = 0.5
    stated = ("float32", (-1, -1, -1)) if varying else like(x)
    given = [x, Fixed(axis), index, Fixed(0.5)]
    agrees(run_node(tmp_path, "IndexFill", given, stated, varying=varying), expected)


def test_index_fill_of_one_place(tmp_path: Path) -> None:
    x = np.array([True, True, True])
    found = run_node(tmp_path, "IndexFill", [x, Fixed(0), np.array(1), Fixed(False)], like(x))
    agrees(found, np.array([True, False, True]))
