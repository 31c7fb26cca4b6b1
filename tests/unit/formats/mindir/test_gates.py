"""Activation functions and bounds agree with their formulas."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.mindir_files import RELEASES
from tests.unit.formats.mindir.one_node import Array, Fixed, agrees, floats, like, run_node

X = np.array([[-30.0, -4.0, -1.0, -0.5], [0.0, 0.5, 2.0, 25.0]], "float32")


def sigmoid(x: Array) -> Array:
    found: Array = 1 / (1 + np.exp(-x.astype("float64")))
    return found


def normal_share(x: Array) -> Array:
    return np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)))(x.astype("float64"))


def elu(x: Array, alpha: float) -> Array:
    found: Array = np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    return found


PLAIN: dict[str, Any] = {
    "SiLU": lambda x: x * sigmoid(x),
    "Mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "MishExt": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "FastGeLU": lambda x: x / (1 + np.exp(-1.702 * np.abs(x))) * np.exp(0.851 * (x - np.abs(x))),
    "HSigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "SeLU": lambda x: 1.05070098 * elu(x, 1.67326324),
    "SeLUExt": lambda x: 1.05070098 * elu(x, 1.67326324),
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("operator", sorted(PLAIN))
def test_activation_agrees_with_its_formula(tmp_path: Path, operator: str, dtype: str) -> None:
    x = X.astype(dtype)
    expected = PLAIN[operator](x.astype("float64")).astype(dtype)
    loose = 2e-3 if dtype == "float16" else 1e-5
    agrees(run_node(tmp_path, operator, [x], like(x)), expected, rtol=loose, atol=loose / 10)


@pytest.mark.parametrize(("written", "is_tanh"), [(0, False), (1, True), ("none", False)])
def test_gelu_is_exact_unless_it_says_tanh(tmp_path: Path, written: Any, is_tanh: bool) -> None:
    x = np.linspace(-4, 4, 41).astype("float32")
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x.astype("float64") ** 3)
    share = 0.5 * (1 + np.tanh(inner)) if is_tanh else normal_share(x)
    found = run_node(tmp_path, "GeluExt", [x], like(x), approximate=written)
    agrees(found, (x * share).astype("float32"))


def test_celu_takes_float16(tmp_path: Path) -> None:
    x = X.astype("float16")
    expected = np.maximum(x, 0) + np.expm1(np.minimum(x, 0))
    agrees(run_node(tmp_path, "CeLU", [x], like(x), alpha=1.0), expected, rtol=2e-3)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_celu_and_elu_heed_alpha(tmp_path: Path, release: str, alpha: float) -> None:
    found = run_node(tmp_path, "CeLU", [X], like(X), release, alpha=alpha)
    expected = np.maximum(X, 0) + alpha * np.expm1(np.minimum(X, 0) / alpha)
    agrees(found, expected.astype("float32"))
    found = run_node(tmp_path, "EluExt", [X], like(X), release, alpha=alpha)
    agrees(found, elu(X, alpha).astype("float32"))


def test_log_sigmoid_neither_overflows_nor_loses(tmp_path: Path) -> None:
    found = run_node(tmp_path, "LogSigmoid", [X], like(X, X), outputs=[0])
    agrees(found, (-np.logaddexp(0, -X)).astype("float32"))


@pytest.mark.parametrize(("beta", "threshold"), [(1, 20), (2.0, 3.0)])
def test_softplus_ext_is_linear_above_its_threshold(
    tmp_path: Path, beta: float, threshold: float
) -> None:
    found = run_node(tmp_path, "SoftplusExt", [X], like(X), beta=beta, threshold=threshold)
    soft = np.logaddexp(0, X * beta) / beta
    agrees(found, np.where(X * beta > threshold, X, soft).astype("float32"))


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3), (2, 4, 3, 2), (4,)])
@pytest.mark.parametrize("channels", [4, 1])
def test_prelu_has_its_weights_along_axis_1(
    tmp_path: Path, shape: tuple[int, ...], channels: int
) -> None:
    x = floats(*shape)
    weight = floats(1 if len(shape) == 1 else channels)
    rows = weight.reshape(-1, *(1,) * (len(shape) - 2)) if len(shape) > 1 else weight
    agrees(run_node(tmp_path, "PReLU", [x, weight], like(x)), np.where(x > 0, x, rows * x))


def log_softmax(x: Array, axis: int) -> Array:
    away = x - x.max(axis, keepdims=True)
    found: Array = away - np.log(np.exp(away).sum(axis, keepdims=True))
    return found


@pytest.mark.parametrize(("shape", "axis"), [((5,), 0), ((3, 4), 1), ((2, 3, 4), 0)])
def test_log_softmax_ext_picks_its_axis_by_rank(
    tmp_path: Path, shape: tuple[int, ...], axis: int
) -> None:
    x = floats(*shape)
    found = run_node(tmp_path, "LogSoftmaxExt", [x], like(x), dim=None, dtype=None)
    agrees(found, log_softmax(x, axis))
    found = run_node(tmp_path, "LogSoftmaxExt", [x], like(x), dim=-1, dtype=None)
    agrees(found, log_softmax(x, -1))


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("axis", [0, -1])
def test_glu_gates_the_first_half(tmp_path: Path, release: str, axis: int) -> None:
    x = floats(4, 6)
    first, second = np.split(x, 2, axis)
    expected = (first * sigmoid(second)).astype("float32")
    agrees(run_node(tmp_path, "GLU", [x], like(expected), release, axis=axis), expected)


def test_swiglu_gates_the_second_half(tmp_path: Path) -> None:
    x = floats(4, 6)
    first, second = np.split(x, 2, -1)
    expected = (first * sigmoid(first) * second).astype("float32")
    agrees(run_node(tmp_path, "Swiglu", [x], like(expected), dim=-1), expected)


def test_glu_of_an_odd_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="odd length"):
        run_node(tmp_path, "GLU", [floats(2, 5)], ("float32", (2, 2)), axis=-1)


@pytest.mark.parametrize("release", RELEASES)
def test_shrinking_agrees_with_its_formula(tmp_path: Path, release: str) -> None:
    found = run_node(tmp_path, "HShrink", [X], like(X), release, lambd=1.0)
    agrees(found, np.where(np.abs(X) <= 1, 0, X).astype("float32"))
    found = run_node(tmp_path, "SoftShrink", [X], like(X), release, lambd=1.0)
    agrees(found, (np.sign(X) * np.maximum(np.abs(X) - 1, 0)).astype("float32"))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "int32"])
@pytest.mark.parametrize(("low", "high"), [(-2, 3), (None, 3), (-2, None), (4, 1)])
def test_clamp_keeps_within_its_bounds(tmp_path: Path, low: Any, high: Any, dtype: str) -> None:
    x = np.array([-9, -2, 0, 3, 7], dtype)
    expected = x
    if low is not None:
        expected = np.maximum(expected, np.array(low, dtype))
    if high is not None:
        expected = np.minimum(expected, np.array(high, dtype))
    agrees(run_node(tmp_path, "ClampScalar", [x], like(x), min=low, max=high), expected)


def test_clamp_with_tensors_broadcasts_and_keeps_nan(tmp_path: Path) -> None:
    x = np.array([[-9, 0.5, np.nan], [3, 7, 1]], "float32")
    low, high = np.array([-1, 1, 0], "float32"), np.array([[2], [5]], "float32")
    found = run_node(tmp_path, "ClampTensor", [x, low, high], like(x))
    agrees(found, np.minimum(np.maximum(x, low), high))
    agrees(run_node(tmp_path, "ClampTensor", [x, Fixed(None), high], like(x)), np.minimum(x, high))


def test_clamp_of_whole_numbers_by_a_fraction_gives_fractions(tmp_path: Path) -> None:
    x = np.array([-9, 2, 7], "int32")
    found = run_node(tmp_path, "ClampScalar", [x], ("float32", (3,)), min=-2, max=3.5)
    agrees(found, np.array([-2, 2, 3.5], "float32"))


def test_hardtanh_and_threshold_agree_with_their_formulas(tmp_path: Path) -> None:
    found = run_node(tmp_path, "Hardtanh", [X], like(X), min_val=-0.7, max_val=1.5)
    agrees(found, np.clip(X, np.float32(-0.7), np.float32(1.5)))
    found = run_node(tmp_path, "Threshold", [X], like(X), threshold=0.5, value=9.0)
    agrees(found, np.where(X > 0.5, X, np.float32(9)))
