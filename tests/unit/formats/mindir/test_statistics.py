"""Extremes, orders, variances and norms agree with numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.formats.mindir.mindir_files import RELEASES
from tests.unit.formats.mindir.one_node import Array, Fixed, agrees, floats, like, run_node

X = floats(3, 5, 4)
TIES = np.array([[2, 5, 5, 1], [7, 7, 0, 0]], "float32")


def test_extreme_of_all(tmp_path: Path) -> None:
    agrees(run_node(tmp_path, "Max", [X], ("float32", ())), np.asarray(X.max()))
    agrees(run_node(tmp_path, "Min", [X], ("float32", ())), np.asarray(X.min()))


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("dim", [0, -1])
@pytest.mark.parametrize("name", ["Max", "Min"])
def test_extreme_along_an_axis_names_the_first_of_equals(
    tmp_path: Path, name: str, dim: int, keep: bool
) -> None:
    place = (np.argmax if name == "Max" else np.argmin)(TIES, dim, keepdims=keep)
    value = (np.max if name == "Max" else np.min)(TIES, dim, keepdims=keep)
    stated = like(value, place)
    agrees(run_node(tmp_path, f"{name}Dim", [TIES], stated, dim=dim, keepdim=keep), value, place)
    found = run_node(tmp_path, f"Arg{name}Ext", [TIES], like(place), dim=dim, keepdim=keep)
    agrees(found, place)


@pytest.mark.parametrize("keep", [False, True])
def test_place_of_extreme_without_axis_counts_all_elements(tmp_path: Path, keep: bool) -> None:
    expected = np.asarray(np.argmax(X, keepdims=keep))
    found = run_node(tmp_path, "ArgMaxExt", [X], like(expected), dim=None, keepdim=keep)
    agrees(found, expected)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("release", RELEASES)
def test_sort_keeps_the_order_of_equals(
    tmp_path: Path, release: str, axis: int, descending: bool
) -> None:
    places = np.argsort(-TIES if descending else TIES, axis, kind="stable")
    values = np.take_along_axis(TIES, places, axis)
    expected = values, places.astype("int32")
    found = run_node(
        tmp_path, "Sort", [TIES], like(*expected), release, axis=axis, descending=descending
    )
    agrees(found, *expected)
    if release == "2.10":
        settings: dict[str, Any] = {"dim": axis, "descending": descending, "stable": True}
        found = run_node(tmp_path, "SortExt", [TIES], like(values, places), **settings)
        agrees(found, values, places)
        agrees(run_node(tmp_path, "ArgSort", [TIES], like(places), **settings), places)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("dim", [1, -1])
def test_top_k_ext_takes_either_end(tmp_path: Path, dim: int, largest: bool) -> None:
    places = np.argsort(-X if largest else X, dim, kind="stable")
    places = np.take(places, [0, 1], dim)
    values = np.take_along_axis(X, places, dim)
    found = run_node(
        tmp_path, "TopkExt", [X, Fixed(2)], like(values, places), dim=dim, largest=largest,
        sorted=True,
    )  # fmt: skip
    agrees(found, values, places)


AXES: list[Any] = [(1,), (0, -1), None, ()]


def over(axes: Any) -> Any:
    return tuple(axes) if axes else None


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("correction", [0, 1, 2])
def test_variance_agrees_with_numpy(
    tmp_path: Path, axes: Any, correction: int, keep: bool, varying: bool
) -> None:
    variance = np.asarray(np.var(X, over(axes), ddof=correction, keepdims=keep))
    middle = np.asarray(np.mean(X, over(axes), keepdims=keep))
    settings: dict[str, Any] = {"dim": axes, "correction": correction, "keepdim": keep}
    stated = ("float32", (-1,) * variance.ndim) if varying else like(variance)
    found = run_node(tmp_path, "Var", [X], stated, varying=varying, **settings)
    agrees(found, variance)
    found = run_node(tmp_path, "StdMean", [X], [stated, stated], varying=varying, **settings)
    agrees(found, np.sqrt(variance), middle)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("unbiased", [False, True])
def test_reduce_std_gives_the_mean_too(tmp_path: Path, release: str, unbiased: bool) -> None:
    expected = np.std(X, 1, ddof=int(unbiased)), X.mean(1)
    found = run_node(
        tmp_path, "ReduceStd", [X], like(*expected), release, axis=(1,), unbiased=unbiased,
        keep_dims=False,
    )  # fmt: skip
    agrees(found, *expected)


def test_log_sum_exp_does_not_overflow(tmp_path: Path) -> None:
    x = X * 100
    expected = np.logaddexp.reduce(x, 1)
    agrees(run_node(tmp_path, "LogSumExp", [x], like(expected), dim=(1,), keepdim=False), expected)


@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
@pytest.mark.parametrize("axes", AXES)
def test_count_non_zero_agrees_with_numpy(tmp_path: Path, axes: Any, dtype: str) -> None:
    x = np.array([[0, 0.25, -1], [0, 0, 3]]).astype(dtype)
    axes = tuple(a for a in axes if a < 2) if axes else axes
    expected = np.asarray(np.count_nonzero(x, over(axes)))
    agrees(run_node(tmp_path, "CountNonZero", [x], like(expected), dim=axes), expected)


def norm(x: Array, order: float, axes: Any, keep: bool) -> Array:
    size = np.abs(x.astype("float64"))
    if np.isinf(order):
        return np.asarray((size.max if order > 0 else size.min)(axes, keepdims=keep))
    if order == 0:
        return np.asarray((size != 0).sum(axes, keepdims=keep))
    return np.asarray((size**order).sum(axes, keepdims=keep) ** (1 / order))


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("order", [2.0, 1.0, 3.0, 0.5, 0.0, np.inf, -np.inf])
def test_vector_norm_agrees_with_its_formula(
    tmp_path: Path, order: float, axes: Any, keep: bool
) -> None:
    expected = norm(X, order, over(axes), keep).astype("float32")
    found = run_node(
        tmp_path, "LinalgVectorNorm", [X], like(expected), ord=float(order), dim=axes,
        keepdim=keep, dtype=None,
    )  # fmt: skip
    agrees(found, expected)


@pytest.mark.parametrize("release", RELEASES)
def test_lp_norm_is_at_least_epsilon(tmp_path: Path, release: str) -> None:
    x = np.array([[3, 4], [0, 0.001]], "float32")
    found = run_node(
        tmp_path, "LpNorm", [x], ("float32", (2,)), release, p=2, axis=(1,), keep_dims=False,
        epsilon=0.5,
    ) if release == "2.0" else run_node(
        tmp_path, "LpNormV2", [x], ("float32", (2,)), p=2, dim=(1,), keepdim=False, epsilon=0.5
    )  # fmt: skip
    agrees(found, np.array([5, 0.5], "float32"))


@pytest.mark.parametrize("keep", [False, True])
def test_euclidean_norm_agrees_with_its_formula(tmp_path: Path, keep: bool) -> None:
    expected = norm(X, 2, (0, 2), keep).astype("float32")
    given = [X, Fixed(np.array([0, 2]))]
    found = run_node(tmp_path, "EuclideanNorm", given, like(expected), "2.0", keep_dims=keep)
    agrees(found, expected)
