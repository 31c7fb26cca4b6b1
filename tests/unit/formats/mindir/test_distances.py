"""Distances of rows, and whether tensors are the same, agree with numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.mindir_files import RELEASES
from tests.unit.formats.mindir.one_node import agrees, floats, like, run_node


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("order", [0.0, 1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_distances_of_each_row_to_each(
    tmp_path: Path, release: str, order: float, batch: tuple[int, ...]
) -> None:
    x, y = floats(*batch, 3, 4), floats(*batch, 5, 4)
    y[..., 0, :2] = x[..., 0, :2]
    apart = x[..., :, None, :] - y[..., None, :, :]
    want = np.linalg.norm(apart, order, axis=-1).astype("float32")
    agrees(run_node(tmp_path, "Cdist", [x, y], like(want), release, p=order), want, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
@pytest.mark.parametrize("same", [True, False])
def test_tensors_are_the_same_if_all_elements_are(tmp_path: Path, dtype: str, same: bool) -> None:
    x = np.array([[1, 0], [0, 1]], dtype)
    y = x.copy()
    y[0, 1] = not same
    agrees(run_node(tmp_path, "EqualExt", [x, y], ("bool", (1,))), np.array([same]))


def test_tensors_of_different_shape_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="different types or shapes"):
        run_node(tmp_path, "EqualExt", [floats(2), floats(3)], ("bool", (1,)))
