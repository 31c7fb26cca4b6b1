"""Diagonals agree with numpy's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.one_node import Fixed, agrees, floats, like, run_node


@pytest.mark.parametrize("dtype", ["float32", "int8", "int64", "bool"])
def test_diag_of_a_vector_is_a_matrix(tmp_path: Path, dtype: str) -> None:
    x = np.array([1, 0, 1], dtype)
    agrees(run_node(tmp_path, "Diag", [x], like(np.diag(x))), np.diag(x))


def test_diag_of_a_vector_of_any_length_keeps_infinities_apart(tmp_path: Path) -> None:
    x = np.array([np.inf, np.nan, 2], "float32")
    found = run_node(tmp_path, "Diag", [x], ("float32", (-1, -1)), varying=True)
    agrees(found, np.diag(x))


def test_diag_of_a_matrix_has_its_axes_twice(tmp_path: Path) -> None:
    x = floats(2, 3)
    expected = np.diag(x.reshape(-1)).reshape(2, 3, 2, 3)
    agrees(run_node(tmp_path, "Diag", [x], like(expected)), expected)


AXES = [(0, 1), (1, 2), (2, 0), (-1, -3)]


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("offset", [0, 1, -1, 3, -2, 9, -9])
def test_diagonal_agrees_with_numpy(tmp_path: Path, offset: int, axes: tuple[int, int]) -> None:
    x = floats(3, 4, 2)
    # Beyond the matrix numpy gives an empty diagonal, as here.
    expected = np.ascontiguousarray(np.diagonal(x, offset, *axes))
    given = [x, Fixed(offset), *(Fixed(a) for a in axes)]
    agrees(run_node(tmp_path, "Diagonal", given, like(expected)), expected)


@pytest.mark.parametrize("shape", [(3, 4), (5, 2), (1, 1)])
def test_trace_sums_the_diagonal(tmp_path: Path, shape: tuple[int, int]) -> None:
    x = floats(*shape)
    agrees(run_node(tmp_path, "Trace", [x], ("float32", ())), np.trace(x).astype("float32"))


def test_trace_of_whole_numbers_is_exact(tmp_path: Path) -> None:
    x = np.diag([2**60 + 1, 2**53 + 1])
    agrees(run_node(tmp_path, "Trace", [x], ("int64", ())), np.trace(x))


@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (2, 2)])
def test_matrix_set_diag_replaces_the_main_one(tmp_path: Path, shape: tuple[int, int]) -> None:
    x, put = floats(2, *shape), floats(2, min(shape))
    expected = x.copy()
    for i in range(min(shape)):
        expected[:, i, i] = put[:, i]
    agrees(run_node(tmp_path, "MatrixSetDiagV3", [x, put, Fixed(0)], like(x)), expected)


def test_matrix_set_diag_of_another_diagonal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="MatrixSetDiagV3 .* other diagonals"):
        run_node(tmp_path, "MatrixSetDiagV3", [floats(2, 2), floats(1), Fixed(1)],
                 ("float32", (2, 2)))  # fmt: skip


def test_diag_of_mint_takes_a_diagonal_or_makes_one(tmp_path: Path) -> None:
    x, row = floats(3, 4), floats(3)
    taken = np.diag(x, 1).copy()
    agrees(run_node(tmp_path, "DiagExt", [x, Fixed(1)], like(taken)), taken)
    agrees(run_node(tmp_path, "DiagExt", [row, Fixed(0)], like(np.diag(row))), np.diag(row))
    with pytest.raises(LoadError, match="another diagonal"):
        run_node(tmp_path, "DiagExt", [row, Fixed(1)], ("float32", (4, 4)))
