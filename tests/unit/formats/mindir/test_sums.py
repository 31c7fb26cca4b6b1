"""Sums of whole numbers keep every digit and wrap as in C."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.mindir_files import RELEASES
from tests.unit.formats.mindir.one_node import Fixed, agrees, like, run_node

LONG = np.array([[2**60 + 1, 3, -(2**55) - 7], [2**53 + 1, 1, -1], [-(2**63), 2**62, 2**62 + 5]])


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("axis", [(0,), (1,), (0, 1), ()])
def test_sum_of_long_numbers_is_exact(tmp_path: Path, release: str, axis: tuple[int, ...]) -> None:
    expected = np.asarray(LONG.sum(axis=axis or None))
    found = run_node(tmp_path, "ReduceSum", [LONG, Fixed(axis)], like(expected), release,
                     keep_dims=False)  # fmt: skip
    agrees(found, expected)


def test_sum_of_mint_widens_to_long_numbers(tmp_path: Path) -> None:
    x = np.array([[2**31 - 1, 2**31 - 1], [-5, 3]], "int32")
    expected = x.sum(axis=1, keepdims=True, dtype="int64")
    given = [x, Fixed((1,)), Fixed(True), Fixed(35)]
    agrees(run_node(tmp_path, "SumExt", given, like(expected)), expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32"])
def test_sum_of_short_numbers_wraps(tmp_path: Path, dtype: str) -> None:
    x: Any = np.array([np.iinfo(dtype).max, 5, 1], dtype)
    expected = np.asarray(x.sum(dtype=dtype))
    agrees(
        run_node(tmp_path, "ReduceSum", [x, Fixed((0,)), Fixed(False)], like(expected)), expected
    )


def test_sum_of_uint64_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="ReduceSum .* UINT64"):
        run_node(tmp_path, "ReduceSum", [np.array([1], "uint64"), Fixed((0,))], ("uint64", ()))
