"""Functions of one number agree with numpy's, at their awkward places too."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.mindir_files import RELEASES
from tests.unit.formats.mindir.one_node import agrees, like, run_node

INSIDE = np.array([-0.9, -0.3, 0.0, 0.1, 0.75], "float32")
ABOVE = np.array([1.0, 1.2, 2.5, 40.0], "float32")
WIDE = np.array([-7.5, -2.5, -0.5, 0.0, 0.5, 1.5, 2.5, 3.7], "float32")
CASES: dict[str, tuple[np.ndarray[Any, Any], Any]] = {
    "Tan": (INSIDE, np.tan), "Asin": (INSIDE, np.arcsin), "ACos": (INSIDE, np.arccos),
    "Atan": (WIDE, np.arctan), "AsinExt": (INSIDE, np.arcsin), "AcosExt": (INSIDE, np.arccos),
    "AtanExt": (WIDE, np.arctan), "Sinh": (WIDE, np.sinh), "Cosh": (WIDE, np.cosh),
    "Asinh": (WIDE, np.arcsinh), "Acosh": (ABOVE, np.arccosh), "Atanh": (INSIDE, np.arctanh),
    "AsinhExt": (WIDE, np.arcsinh), "AcoshExt": (ABOVE, np.arccosh),
    "Trunc": (WIDE, np.trunc), "Frac": (WIDE, lambda x: x - np.trunc(x)), "Exp2": (WIDE, np.exp2),
    "Log2": (ABOVE, np.log2), "Log10": (ABOVE, np.log10), "Sinc": (WIDE, np.sinc),
    "Identity": (WIDE, lambda x: x), "Inv": (ABOVE, np.reciprocal),
}  # fmt: skip


@pytest.mark.parametrize("operator", sorted(CASES))
def test_function_agrees_with_numpy(tmp_path: Path, operator: str) -> None:
    x, function = CASES[operator]
    agrees(run_node(tmp_path, operator, [x], like(x)), function(x).astype("float32"))


@pytest.mark.parametrize("operator", ["Tan", "Expm1", "Log2"])
def test_whole_numbers_are_computed_as_the_output_states(tmp_path: Path, operator: str) -> None:
    x = np.array([1, 2, 3], "int32")
    function = {"Tan": np.tan, "Expm1": np.expm1, "Log2": np.log2}[operator]
    agrees(run_node(tmp_path, operator, [x], ("float32", (3,))), function(x).astype("float32"))


@pytest.mark.parametrize(("operator", "function"), [("Expm1", np.expm1), ("Log1p", np.log1p)])
def test_function_loses_nothing_near_zero(tmp_path: Path, operator: str, function: Any) -> None:
    x = np.array([1e-30, -1e-12, 1e-7, 1e-4, -0.3, 0.49, 0.51, 3.0, 80.0], "float32")
    agrees(run_node(tmp_path, operator, [x], like(x)), function(x), rtol=1e-6, atol=0)


def test_expm1_and_log1p_reach_their_limits(tmp_path: Path) -> None:
    x = np.array([-200.0, -np.inf, np.inf], "float32")
    agrees(run_node(tmp_path, "Expm1", [x], like(x)), np.array([-1, -1, np.inf], "float32"))
    x = np.array([-1.0, np.inf], "float32")
    agrees(run_node(tmp_path, "Log1p", [x], like(x)), np.array([-np.inf, np.inf], "float32"))


def test_erfc_keeps_its_precision_in_the_tail(tmp_path: Path) -> None:
    x = np.linspace(-4, 9, 53).astype("float32")
    expected = np.array([math.erfc(float(v)) for v in x])
    (found,) = run_node(tmp_path, "Erfc", [x], like(x))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_erfc_of_float64_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="Erfc .* precision"):
        run_node(tmp_path, "Erfc", [np.zeros(2)], ("float64", (2,)))


@pytest.mark.parametrize("decimals", [0, 1, -1])
def test_round_takes_halves_to_even(tmp_path: Path, decimals: int) -> None:
    x = np.array([-25.0, -2.5, 0.5, 1.5, 0.25, 0.35, 14.0], "float32")
    found = run_node(tmp_path, "Round", [x], like(x), decimals=decimals)
    agrees(found, np.round(x, decimals))


def test_round_without_decimals_is_that_of_older_releases(tmp_path: Path) -> None:
    x = np.array([0.5, 1.5, -2.5], "float32")
    agrees(run_node(tmp_path, "Round", [x], like(x), release="2.0"), np.round(x))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
@pytest.mark.parametrize("operator", ["IsNan", "IsInf", "IsFinite", "IsNegInf"])
def test_tests_of_numbers_agree_with_numpy(tmp_path: Path, operator: str, dtype: str) -> None:
    special = [np.nan, np.inf, -np.inf] if dtype != "int32" else [1, 2, 3]
    x = np.array([0, -1, *special], dtype)
    function = {
        "IsNan": np.isnan, "IsInf": np.isinf, "IsFinite": np.isfinite,
        "IsNegInf": lambda v: np.isinf(v) & (v < 0),
    }[operator]  # fmt: skip
    agrees(run_node(tmp_path, operator, [x], ("bool", x.shape)), function(x))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("given", [(None, None, None), (1.0, 2.0, -3.0)])
def test_nan_to_num_agrees_with_numpy(tmp_path: Path, given: Any, dtype: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 4], dtype)
    nan, up, down = given
    found = run_node(tmp_path, "NanToNum", [x], like(x), nan=nan, posinf=up, neginf=down)
    expected = np.nan_to_num(x, nan=0.0 if nan is None else nan, posinf=up, neginf=down)
    agrees(found, expected)


@pytest.mark.parametrize("eps", [-1.0, 0.25])
def test_logit_keeps_away_from_its_ends(tmp_path: Path, eps: float) -> None:
    x = np.array([0.0, 0.1, 0.5, 0.9, 1.0], "float32")
    inside = x if eps < 0 else np.clip(x, np.float32(eps), np.float32(1 - eps))
    with np.errstate(divide="ignore"):
        expected = np.log(inside / (1 - inside))
    for release in RELEASES:
        agrees(run_node(tmp_path, "Logit", [x], like(x), release, eps=eps), expected)
