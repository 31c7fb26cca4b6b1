"""Tensors made of a number or a rule agree with numpy, of varying shapes too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.mindir_files import RELEASES
from tests.unit.formats.mindir.one_node import Fixed, agrees, floats, like, run_node

DTYPES = ["float32", "float16", "int32", "int64", "bool"]
X = floats(3, 4)


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operator", ["ZerosLike", "OnesLikeExt", "FullLike"])
def test_constant_in_the_shape_of_another(
    tmp_path: Path, operator: str, dtype: str, varying: bool
) -> None:
    number = {"ZerosLike": 0, "OnesLikeExt": 1, "FullLike": 7}[operator]
    more = [Fixed(7)] if operator == "FullLike" else []
    stated = (dtype, (-1, -1) if varying else X.shape)
    found = run_node(tmp_path, operator, [X, *more], stated, varying=varying)
    agrees(found, np.full(X.shape, number, dtype))


@pytest.mark.parametrize("shape", [(2, 3), (), (0, 4)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_constant_in_a_shape(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    numbers = (("Zeros", 0), ("Ones", 1), ("FillScalar", 1), ("FillV2", 1))
    for operator, number in numbers:
        more = [Fixed(number)] if operator.startswith("Fill") else []
        found = run_node(tmp_path, operator, [Fixed(shape), *more], (dtype, shape))
        agrees(found, np.full(shape, number, dtype))


def test_fill_of_2_0_has_its_type_first(tmp_path: Path) -> None:
    found = run_node(
        tmp_path, "Fill", [Fixed(43), Fixed((2, 2)), Fixed(3)], ("float32", (2, 2)), "2.0"
    )
    agrees(found, np.full((2, 2), 3, "float32"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "m"), [(3, 3), (2, 4), (4, 2)])
def test_eye_agrees_with_numpy(tmp_path: Path, n: int, m: int, dtype: str) -> None:
    found = run_node(tmp_path, "Eye", [Fixed(n), Fixed(m), Fixed(43)], (dtype, (n, m)))
    agrees(found, np.eye(n, m, dtype=dtype))


@pytest.mark.parametrize("dtype", [*DTYPES, "int8"])
@pytest.mark.parametrize("diagonal", [0, 2, -1])
@pytest.mark.parametrize("operator", ["Tril", "Triu"])
def test_triangle_agrees_with_numpy(
    tmp_path: Path, operator: str, diagonal: int, dtype: str
) -> None:
    x = (np.arange(24).reshape(2, 3, 4) + 1).astype(dtype)
    function = np.tril if operator == "Tril" else np.triu
    for release in RELEASES:
        found = run_node(tmp_path, operator, [x], like(x), release, diagonal=diagonal)
        agrees(found, function(x, diagonal))


@pytest.mark.parametrize("dtype", DTYPES)
def test_masked_fill_broadcasts_its_mask(tmp_path: Path, dtype: str) -> None:
    x = np.arange(12).reshape(3, 4).astype(dtype)
    mask = np.array([True, False, False, True])
    value = np.array(1, dtype)
    found = run_node(tmp_path, "MaskedFill", [x, mask, Fixed(value)], like(x))
    agrees(found, np.where(mask, value, x))
    found = run_node(tmp_path, "MaskedFillScalar", [x, mask, Fixed(1)], like(x))
    agrees(found, np.where(mask, value, x))


@pytest.mark.parametrize(("start", "end", "step", "dtype"), [
    (0, 5, 1, "int64"), (7, -1, -2, "int32"), (0.5, 2.0, 0.25, "float32"), (0, 4, 1, "float16"),
])  # fmt: skip
def test_range_agrees_with_numpy(
    tmp_path: Path, start: Any, end: Any, step: Any, dtype: str
) -> None:
    expected = np.arange(start, end, step).astype(dtype)
    given = [Fixed(start), Fixed(end), Fixed(step)]
    found = run_node(tmp_path, "Range", given, like(expected), maxlen=1000)
    agrees(found, expected)
    agrees(run_node(tmp_path, "Arange", given, like(expected), dtype=None), expected)


@pytest.mark.parametrize(("start", "end", "steps"), [
    (0.0, 1.0, 4), (2.0, -3.0, 7), (0.1, 0.7, 2), (5.0, 9.0, 1), (1.0, 1.0, 3),
])  # fmt: skip
def test_lin_space_is_exact_at_both_ends(
    tmp_path: Path, start: float, end: float, steps: int
) -> None:
    expected = np.linspace(np.float32(start), np.float32(end), steps).astype("float32")
    given = [Fixed(np.array(v, "float32")) for v in (start, end)]
    found = run_node(tmp_path, "LinSpace", [*given, Fixed(steps)], like(expected))
    agrees(found, expected)
    assert found[0][0] == np.float32(start)
    assert steps == 1 or found[0][-1] == np.float32(end)


def test_lin_space_of_whole_numbers_is_refused(tmp_path: Path) -> None:
    given = [Fixed(0), Fixed(5), Fixed(3), Fixed(None)]
    with pytest.raises(LoadError, match="whole numbers evenly"):
        run_node(tmp_path, "LinSpaceExt", given, ("int32", (3,)))


def test_one_hot_ext_is_one_hot(tmp_path: Path) -> None:
    indices = np.array([2, 0, 1])
    given = [indices, Fixed(3), Fixed(np.array(1)), Fixed(np.array(0))]
    found = run_node(tmp_path, "OneHotExt", given, ("int64", (3, 3)), axis=-1)
    agrees(found, np.eye(3, dtype="int64")[indices])
    given[1] = Fixed(-1)
    with pytest.raises(LoadError, match="classes from its data"):
        run_node(tmp_path, "OneHotExt", given, ("int64", (3, -1)), axis=-1)
