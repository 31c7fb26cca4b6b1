"""Quotients, remainders and other functions of two numbers agree with numpy and Python."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.one_node import Fixed, agrees, floats, like, run_node

Array = np.ndarray[Any, Any]
X = np.array([[7, -7, 7, -7, 0, 6]])
Y = np.array([[3], [-3], [2], [-4]])
DTYPES = ["int8", "int32", "int64", "float16", "float32", "float64"]
QUOTIENTS: dict[str, Any] = {
    "Mod": np.fmod, "TruncateMod": np.fmod, "FmodTensor": np.fmod, "FloorMod": np.mod,
    "RemainderTensorTensor": np.mod, "TruncateDiv": lambda x, y: np.trunc(x / y),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operator", sorted(QUOTIENTS))
def test_signs_of_both_operands_are_heeded(tmp_path: Path, operator: str, dtype: str) -> None:
    x, y = X.astype(dtype), Y.astype(dtype)
    if dtype.startswith("float"):
        x = x + np.asarray(0.5, dtype)
    expected = QUOTIENTS[operator](x, y).astype(dtype)
    agrees(run_node(tmp_path, operator, [x, y], like(expected)), expected)


def test_whole_number_beside_fraction_is_divided_as_the_output_states(tmp_path: Path) -> None:
    x, y = X.astype("int32"), np.array([0.5], "float32")
    expected = np.mod(x, y).astype("float32")
    agrees(run_node(tmp_path, "FloorMod", [x, y], like(expected)), expected)


@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize(("written", "function"), [
    (1, lambda x, y: np.trunc(x / y)), ("trunc", lambda x, y: np.trunc(x / y)),
    (2, np.floor_divide), ("floor", np.floor_divide),
])  # fmt: skip
def test_div_mod_rounds_as_its_mode_says(
    tmp_path: Path, written: Any, function: Any, dtype: str
) -> None:
    x, y = X.astype(dtype), Y.astype(dtype)
    expected = function(x, y).astype(dtype)
    found = run_node(tmp_path, "DivMod", [x, y], like(expected), rounding_mode=written)
    agrees(found, expected)


def test_div_mod_without_mode_divides_whole_numbers_into_fractions(tmp_path: Path) -> None:
    x = np.array([7, -7], "int32")
    found = run_node(tmp_path, "DivMods", [x, Fixed(2)], ("float32", (2,)), rounding_mode=None)
    agrees(found, np.array([3.5, -3.5], "float32"))


def test_div_mod_into_whole_numbers_without_mode_is_refused(tmp_path: Path) -> None:
    x = np.array([7], "int32")
    with pytest.raises(LoadError, match="divides into whole numbers"):
        run_node(tmp_path, "DivMod", [x, x], like(x), rounding_mode=None)


SCALARS = {
    "FloorDivScalar": np.floor_divide, "FmodScalar": np.fmod, "RemainderTensorScalar": np.mod,
    "PowTensorScalar": np.power, "EqScalar": np.equal, "LessScalar": np.less,
    "GreaterEqualScalar": np.greater_equal,
}  # fmt: skip


@pytest.mark.parametrize("number", [2, 2.5])
@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize("operator", sorted(SCALARS))
def test_number_beside_tensor_promotes_as_mindspore(
    tmp_path: Path, operator: str, dtype: str, number: float
) -> None:
    x = np.array([1, 2, 3, 8], dtype)
    function = SCALARS[operator]
    whole = dtype == "int32" and isinstance(number, int)
    expected = function(x.astype("float64"), number)
    if expected.dtype != bool:
        expected = expected.astype("int32" if whole else "float32")
    agrees(run_node(tmp_path, operator, [x, Fixed(number)], like(expected)), expected)


@pytest.mark.parametrize(("operator", "sign"), [("AddScalar", 1), ("SubScalar", -1)])
def test_scaled_number_is_added(tmp_path: Path, operator: str, sign: int) -> None:
    x = floats(3)
    found = run_node(tmp_path, operator, [x, Fixed(2.0)], like(x), alpha=3)
    agrees(found, x + np.float32(sign * 6))


SPECIAL = [0.0, -0.0, 1.0, -2.0, 3e30, np.inf, -np.inf]
PAIRS = np.array([(a, b) for a in SPECIAL for b in SPECIAL], "float32")


def test_atan2_agrees_with_python_in_all_quadrants_and_at_zeros(tmp_path: Path) -> None:
    y, x = PAIRS.T.copy()
    expected = np.array([math.atan2(*pair) for pair in PAIRS], "float32")
    agrees(run_node(tmp_path, "Atan2", [y, x], like(y)), expected)


def test_hypot_neither_overflows_nor_divides_by_zero(tmp_path: Path) -> None:
    x, y = PAIRS.T.copy()
    expected = np.hypot(x.astype("float64"), y).astype("float32")
    agrees(run_node(tmp_path, "Hypot", [x, y], like(x)), expected)


@pytest.mark.parametrize(
    ("operator", "function"), [("LogAddExp", np.logaddexp), ("LogAddExp2", np.logaddexp2)]
)
def test_sum_of_exponentials_agrees_with_numpy(
    tmp_path: Path, operator: str, function: Any
) -> None:
    x = np.array([0, 1, 500, -500, -np.inf, np.inf, 3], "float32")
    y = np.array([0, 2, 499, -500, -np.inf, np.inf, -np.inf], "float32")
    agrees(run_node(tmp_path, operator, [x, y], like(x)), function(x, y))


def test_zero_rules_of_divisions_and_logarithms(tmp_path: Path) -> None:
    x = np.array([0, 0, 2, 3], "float32")
    y = np.array([0, 5, 0, 4], "float32")
    agrees(run_node(tmp_path, "DivNoNan", [x, y], like(x)), np.array([0, 0, 0, 0.75], "float32"))
    agrees(run_node(tmp_path, "Xdivy", [x, y], like(x)), np.array([0, 0, np.inf, 0.75], "float32"))
    expected = np.array([0, 0, -np.inf, 3 * math.log(4)], "float32")
    agrees(run_node(tmp_path, "Xlogy", [x, y], like(x)), expected)


def test_xlogy_of_zero_and_nan_is_nan(tmp_path: Path) -> None:
    x, y = np.zeros(1, "float32"), np.array([np.nan], "float32")
    agrees(run_node(tmp_path, "Xlogy", [x, y], like(x)), y)


@pytest.mark.parametrize(("operator", "function"), [("Fmax", np.fmax), ("Fmin", np.fmin)])
def test_number_wins_over_nan(tmp_path: Path, operator: str, function: Any) -> None:
    x = np.array([1, np.nan, 3, np.nan], "float32")
    y = np.array([2, 5, np.nan, np.nan], "float32")
    agrees(run_node(tmp_path, operator, [x, y], like(x)), function(x, y))


def test_heaviside_and_squared_difference_agree_with_numpy(tmp_path: Path) -> None:
    x, y = np.array([-2, 0, 3], "float32"), np.array([9, 8, 7], "float32")
    agrees(run_node(tmp_path, "Heaviside", [x, y], like(x)), np.heaviside(x, y))
    agrees(run_node(tmp_path, "SquaredDifference", [x, y], like(x)), (x - y) ** 2)


@pytest.mark.parametrize("equal_nan", [False, True])
def test_is_close_agrees_with_numpy(tmp_path: Path, equal_nan: bool) -> None:
    x = np.array([1, 1, 100, np.inf, np.inf, np.nan], "float32")
    y = np.array([1.05, 1.2, 109, np.inf, 5, np.nan], "float32")
    found = run_node(
        tmp_path, "IsClose", [x, y], ("bool", (6,)), rtol=0.1, atol=0.0, equal_nan=equal_nan
    )
    agrees(found, np.isclose(x, y, 0.1, 0, equal_nan))


@pytest.mark.parametrize("operator", ["AddN", "AccumulateNV2"])
@pytest.mark.parametrize("count", [1, 3])
def test_sum_of_a_tuple(tmp_path: Path, operator: str, count: int) -> None:
    tensors = [floats(2, 3) for _ in range(count)]
    expected = np.sum(tensors, axis=0, dtype="float32")
    agrees(run_node(tmp_path, operator, [tensors], like(expected)), expected)


@pytest.mark.parametrize(("operator", "function"), [
    ("Addcmul", np.multiply), ("Addcdiv", np.divide), ("AddcmulExt", np.multiply),
    ("AddcdivExt", np.divide),
])  # fmt: skip
def test_scaled_product_or_quotient_is_added(tmp_path: Path, operator: str, function: Any) -> None:
    x, one, other = floats(2, 3), floats(2, 1), np.abs(floats(3)) + 1
    value = np.array(0.5, "float32") if operator in ("Addcmul", "Addcdiv") else 0.5
    found = run_node(tmp_path, operator, [x, one, other, Fixed(value)], like(x))
    agrees(found, x + np.float32(0.5) * function(one, other))


def test_approximately_equal_excludes_its_tolerance(tmp_path: Path) -> None:
    x, y = np.array([1, 1, 1], "float32"), np.array([1.25, 1.5, 0.5], "float32")
    found = run_node(tmp_path, "ApproximateEqual", [x, y], ("bool", (3,)), "2.0", tolerance=0.5)
    agrees(found, np.array([True, False, False]))


@pytest.mark.parametrize("operator", ["Div", "RealDiv"])
def test_division_is_cut_where_the_output_is_whole(tmp_path: Path, operator: str) -> None:
    x, y = np.array([7, -3, -7], "int32"), np.array([2, 2, -4], "int32")
    found = run_node(tmp_path, operator, [x, y], like(x), "2.0")
    agrees(found, np.array([3, -1, 1], "int32"))
    found = run_node(tmp_path, operator, [x, y], ("float32", (3,)))
    agrees(found, np.array([3.5, -1.5, 1.75], "float32"))
