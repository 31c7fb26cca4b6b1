"""Slices combined one after the other agree with loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.formats.mindir.one_node import Array, Fixed, agrees, floats, like, run_node

X = floats(3, 4)
COMBINED = {"Max": np.maximum, "Min": np.minimum, "Div": np.divide}
SEGMENTS: dict[str, tuple[Any, Any]] = {
    "Sum": (np.add, lambda limits: 0),
    "Prod": (np.multiply, lambda limits: 1),
    "Max": (np.maximum, lambda limits: limits.min),
    "Min": (np.minimum, lambda limits: limits.max),
}


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("name", sorted(COMBINED))
def test_tensor_scatter_combines_a_slice_as_often_as_it_is_named(
    tmp_path: Path, name: str, varying: bool
) -> None:
    indices, updates = np.array([[2], [0], [2]], "int32"), floats(3, 4)
    expected = X.copy()
    for (row,), update in zip(indices, updates, strict=True):
        expected[row] = COMBINED[name](expected[row], update)
    if varying:
        # Only how many places a row of indices names must be known.
        found = run_node(tmp_path, f"TensorScatter{name}", [X, Fixed(indices), updates],
                         ("float32", (-1, -1)), varying=True)  # fmt: skip
    else:
        found = run_node(tmp_path, f"TensorScatter{name}", [X, indices, updates], like(X))
    agrees(found, expected)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "float16"])
def test_tensor_scatter_max_of_single_elements(tmp_path: Path, dtype: str) -> None:
    x = np.arange(12).reshape(3, 4).astype(dtype)
    indices = np.array([[[0, 1], [2, 3]], [[1, 0], [0, 1]]])
    updates = np.array([[5, 3], [-7, 9]], dtype)
    expected = x.copy()
    for place in np.ndindex(2, 2):
        at = tuple(indices[place])
        expected[at] = max(expected[at], updates[place])
    agrees(run_node(tmp_path, "TensorScatterMax", [x, indices, updates], like(x)), expected)


def taken_together(name: str, x: Array, segments: Array, count: int) -> Array:
    function, start = SEGMENTS[name]
    limits = np.iinfo(x.dtype) if x.dtype.kind in "iu" else np.finfo(x.dtype)
    found = np.full((count, *x.shape[segments.ndim :]), start(limits), x.dtype)
    for place in np.ndindex(segments.shape):
        if segments[place] >= 0:
            found[segments[place]] = function(found[segments[place]], x[place])
    return found


@pytest.mark.parametrize("segments", [[2, 0, 2], [-1, 1, 1]])
@pytest.mark.parametrize("name", sorted(SEGMENTS))
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_segments_leave_out_what_is_below_zero(
    tmp_path: Path, name: str, segments: list[int], dtype: str
) -> None:
    x = X if dtype == "float32" else np.array([[1, -2], [3, 4], [-5, 6]], dtype)
    given = np.array(segments, "int32")
    expected = taken_together(name, x, given, 4)
    found = run_node(tmp_path, f"UnsortedSegment{name}", [x, given, Fixed(4)], like(expected))
    agrees(found, expected)


@pytest.mark.parametrize("name", sorted(SEGMENTS))
def test_segments_of_rank_two(tmp_path: Path, name: str) -> None:
    segments = np.array([[0, 2, 2, 0], [1, 1, 1, 1], [0, 0, 0, 2]])
    expected = taken_together(name, X, segments, 3)
    found = run_node(tmp_path, f"UnsortedSegment{name}", [X, segments, Fixed(3)], like(expected))
    agrees(found, expected)
