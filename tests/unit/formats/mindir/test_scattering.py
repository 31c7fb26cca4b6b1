"""Elements and slices put by index agree with loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.formats.mindir.mindir_files import RELEASES
from tests.unit.formats.mindir.one_node import Array, Fixed, agrees, floats, like, run_node

X = floats(3, 4)
INDEX = np.array([[0, 2], [3, 3], [1, 0]])
SOURCE = floats(3, 2)


def put(x: Array, axis: int, index: Array, source: Array, add: bool) -> Array:
    found = x.copy()
    for place in np.ndindex(index.shape):
        at = list(place)
        at[axis] = index[place]
        found[tuple(at)] = source[place] + (found[tuple(at)] if add else 0)
    return found


@pytest.mark.parametrize("written", [0, 1, "none", "add"])
def test_scatter_puts_or_adds_elements(tmp_path: Path, written: Any) -> None:
    index = INDEX if written in (1, "add") else np.array([[0, 2], [3, 1], [1, 0]])
    expected = put(X, 1, index, SOURCE, written in (1, "add"))
    given = [X, Fixed(1), index, SOURCE]
    agrees(run_node(tmp_path, "Scatter", given, like(X), reduce=written), expected)


def test_scatter_add_reads_only_as_many_updates_as_there_are_indices(tmp_path: Path) -> None:
    given = [X, Fixed(1), INDEX, floats(5, 4)]
    expected = put(X, 1, INDEX, given[3], add=True)  # type: ignore[arg-type]
    agrees(run_node(tmp_path, "ScatterAddExt", given, like(X)), expected)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("reduction", ["none", "add"])
def test_tensor_scatter_elements_along_an_axis(
    tmp_path: Path, release: str, reduction: str
) -> None:
    index, source = np.array([[2, 0, 1, 1]], "int32"), floats(1, 4)
    expected = put(X, 0, index, source, reduction == "add")
    found = run_node(
        tmp_path, "TensorScatterElements", [X, index, source], like(X), release, axis=0,
        reduction=reduction,
    )  # fmt: skip
    agrees(found, expected)


@pytest.mark.parametrize("name", ["Update", "Add", "Mul", "Sub"])
def test_tensor_scatter_combines_slices(tmp_path: Path, name: str) -> None:
    indices, updates = np.array([[2], [0]], "int32"), floats(2, 4)
    expected = X.copy()
    for (row,), update in zip(indices, updates, strict=True):
        expected[row] = {
            "Update": update, "Add": X[row] + update, "Mul": X[row] * update,
            "Sub": X[row] - update,
        }[name]  # fmt: skip
    found = run_node(tmp_path, f"TensorScatter{name}", [X, indices, updates], like(X))
    agrees(found, expected)


def test_scatter_nd_adds_up_in_zeros(tmp_path: Path) -> None:
    indices, updates = np.array([[1], [3], [1]]), np.array([1, 2, 4], "float32")
    found = run_node(tmp_path, "ScatterNd", [indices, updates, Fixed((5,))], ("float32", (5,)))
    agrees(found, np.array([0, 5, 0, 2, 0], "float32"))


@pytest.mark.parametrize("add", [False, True])
def test_scatter_value_puts_or_adds_one_number(tmp_path: Path, add: bool) -> None:
    given = [X, Fixed(1), INDEX, Fixed(2.5)]
    expected = put(X, 1, INDEX, np.full(INDEX.shape, 2.5, "float32"), add)
    found = run_node(tmp_path, "ScatterValue", given, like(X), reduce=int(add))
    agrees(found, expected)


@pytest.mark.parametrize("alpha", [1, 0.5])
@pytest.mark.parametrize("axis", [0, 1, -2])
def test_index_add_adds_slices_of_an_axis(tmp_path: Path, axis: int, alpha: float) -> None:
    x, index = floats(3, 4, 2), np.array([2, 0, 2])
    shape = list(x.shape)
    shape[axis] = 3
    source = floats(*shape)
    expected = x.copy()
    np.add.at(np.moveaxis(expected, axis, 0), index, np.moveaxis(source, axis, 0) * alpha)
    given = [x, Fixed(axis), index, source, Fixed(alpha)]
    agrees(run_node(tmp_path, "IndexAddExt", given, like(x)), expected)
