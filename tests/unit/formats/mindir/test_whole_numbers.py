"""Divisors, multiples and set bits agree with numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.one_node import agrees, floats, like, run_node

X = np.array([12, -18, 0, 0, 7, 2**31 - 1, 987])
Y = np.array([18, 12, 5, 0, -7, 2**30], "int64")[:, None]


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_gcd_agrees_with_numpy(tmp_path: Path, dtype: str, varying: bool) -> None:
    x, y = X.astype(dtype), Y.astype(dtype)
    expected = np.gcd(x, y)
    stated = (dtype, (-1, -1)) if varying else like(expected)
    agrees(run_node(tmp_path, "Gcd", [x, y], stated, varying=varying), expected)


def test_gcd_of_neighbours_among_fibonacci_numbers_takes_every_round(tmp_path: Path) -> None:
    x, y = np.array([7540113804746346429]), np.array([4660046610375530309])
    agrees(run_node(tmp_path, "Gcd", [x, y], like(x)), np.gcd(x, y))


def test_lcm_agrees_with_numpy(tmp_path: Path) -> None:
    expected = np.lcm(X, Y)
    agrees(run_node(tmp_path, "Lcm", [X, Y], like(expected)), expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "int64"])
def test_population_count_counts_the_sign_too(tmp_path: Path, dtype: str) -> None:
    info = np.iinfo(dtype)
    x = np.array([0, 1, info.max, info.min, info.max // 3], dtype)
    mask = 2**info.bits - 1
    expected = np.array([(int(v) & mask).bit_count() for v in x], "uint8")
    agrees(run_node(tmp_path, "PopulationCount", [x], like(expected)), expected)


def test_population_of_fractions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="not whole"):
        run_node(tmp_path, "PopulationCount", [floats(2)], ("uint8", (2,)))
