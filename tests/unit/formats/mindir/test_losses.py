"""Losses agree with their definitions in double precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.mindir_files import RELEASES
from tests.unit.formats.mindir.one_node import Array, Fixed, agrees, floats, like, run_node

LOGITS = floats(4, 5) * 3
LABELS = np.array([1, 0, 4, 1], "int32")
WEIGHT = np.array([0.5, 2, 1, 0.25, 3], "float32")
X, Y = floats(3, 4) * 2, floats(3, 4)
CHANCES = np.random.default_rng(3).random((3, 4)).astype("float32")
REDUCTIONS = {"sum": (0, np.sum), "mean": (1, np.mean), "none": (2, lambda v: v)}
KINDS = [(r, k) for r in RELEASES for k in REDUCTIONS]
reductions = pytest.mark.parametrize(("release", "kind"), KINDS)


def reduced(each: Array, release: str, kind: str) -> tuple[Array, int | str]:
    """Return the answer, and the setting as the release writes it."""
    number, function = REDUCTIONS[kind]
    answer = np.asarray(function(each), "float32")
    return answer, number if release == "2.10" else kind


def log_softmax(x: Array) -> Array:
    wide = x.astype("float64")
    away = wide - wide.max(-1, keepdims=True)
    return away - np.log(np.exp(away).sum(-1, keepdims=True))


def test_softmax_cross_entropy_gives_losses_and_their_slopes(tmp_path: Path) -> None:
    labels = np.eye(5, dtype="float32")[LABELS] * 0.9 + 0.02
    logs = log_softmax(LOGITS)
    loss = (-labels * logs).sum(-1).astype("float32")
    slope = (np.exp(logs) - labels).astype("float32")
    found = run_node(tmp_path, "SoftmaxCrossEntropyWithLogits", [LOGITS, labels], like(loss, slope))
    agrees(found, loss, slope)


def test_sparse_softmax_cross_entropy_is_the_mean_over_rows(tmp_path: Path) -> None:
    loss = np.asarray(-log_softmax(LOGITS)[np.arange(4), LABELS].mean(), "float32")
    given = [LOGITS, LABELS]
    agrees(run_node(tmp_path, "SparseSoftmaxCrossEntropyWithLogits", given, like(loss)), loss)
    with pytest.raises(LoadError, match="gradient"):
        run_node(tmp_path, "SparseSoftmaxCrossEntropyWithLogits", given, like(LOGITS), "2.0",
                 is_grad=True)  # fmt: skip


@reductions
def test_binary_cross_entropy(tmp_path: Path, release: str, kind: str) -> None:
    x, y, w = CHANCES, CHANCES[::-1].copy(), np.abs(Y)
    wide = x.astype("float64")
    each = -w * (y * np.log(wide) + (1 - y) * np.log(1 - wide))
    want, written = reduced(each, release, kind)
    found = run_node(tmp_path, "BinaryCrossEntropy", [x, y, w], like(want), release,
                     reduction=written)  # fmt: skip
    agrees(found, want)


def test_binary_cross_entropy_of_certainties_is_finite(tmp_path: Path) -> None:
    x, y = np.array([0, 1, 0, 1], "float32"), np.array([0, 1, 1, 0], "float32")
    want = np.array([0, 0, -np.log(1e-12), -np.log(1e-12)], "float32")
    given = [x, y, Fixed(None), Fixed(2)]
    agrees(run_node(tmp_path, "BinaryCrossEntropy", given, like(want)), want)


@reductions
def test_binary_cross_entropy_with_logits(tmp_path: Path, release: str, kind: str) -> None:
    x, y, weight, more = X * 20, CHANCES, np.abs(Y), np.array([0.5, 1, 2, 3], "float32")
    wide = x.astype("float64")
    each = weight * (more * y * np.logaddexp(0, -wide) + (1 - y) * np.logaddexp(0, wide))
    want, written = reduced(each, release, kind)
    found = run_node(tmp_path, "BCEWithLogitsLoss", [x, y, weight, more], like(want), release,
                     reduction=written)  # fmt: skip
    agrees(found, want, rtol=1e-4, atol=1e-5)


@reductions
def test_nll_loss_leaves_ignored_labels_out(tmp_path: Path, release: str, kind: str) -> None:
    labels = np.array([1, -100, 4, 1], "int32")
    there = np.maximum(labels, 0)
    weights = WEIGHT[there] * (labels >= 0)
    each = -weights * LOGITS[np.arange(4), there]
    total = np.asarray(weights.sum(), "float32")
    want = {"none": each, "sum": each.sum(), "mean": each.sum() / total}[kind]
    want = np.asarray(want, "float32")
    settings = {"reduction": reduced(each, release, kind)[1], "ignore_index": -100}
    given = [LOGITS, labels, WEIGHT]
    found = run_node(tmp_path, "NLLLoss", given, like(want, total), release, **settings)
    agrees(found, want, total)


@pytest.mark.parametrize("kind", [*REDUCTIONS, "batchmean"])
def test_divergence_is_nothing_where_the_target_is(tmp_path: Path, kind: str) -> None:
    target = CHANCES.copy()
    target[1] = 0
    some = np.where(target > 0, target, 1)
    each = np.where(target > 0, target * (np.log(some) - X), 0)
    want = each.sum() / 3 if kind == "batchmean" else reduced(each, "2.0", kind)[0]
    want = np.asarray(want, "float32")
    given = [X, target]
    agrees(run_node(tmp_path, "KLDivLoss", given, like(want), "2.0", reduction=kind), want)


@reductions
@pytest.mark.parametrize("beta", [1.0, 0.25])
def test_smooth_l1_loss(tmp_path: Path, release: str, kind: str, beta: float) -> None:
    apart = np.abs(X.astype("float64") - Y)
    each = np.where(apart < beta, 0.5 * apart**2 / beta, apart - 0.5 * beta)
    want, written = reduced(each, release, kind)
    found = run_node(tmp_path, "SmoothL1Loss", [X, Y], like(want), release, beta=beta,
                     reduction=written)  # fmt: skip
    agrees(found, want)


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize(
    ("operator", "function"), [("MSELossExt", np.square), ("L1LossExt", np.abs)]
)
def test_distance(tmp_path: Path, operator: str, function: Any, kind: str) -> None:
    want, written = reduced(function(X - Y), "2.10", kind)
    agrees(run_node(tmp_path, operator, [X, Y, Fixed(written)], like(want)), want)


@pytest.mark.parametrize("kind", REDUCTIONS)
def test_soft_margin_loss_does_not_overflow(tmp_path: Path, kind: str) -> None:
    x, y = X * 100, np.sign(Y)
    want, _ = reduced(np.logaddexp(0, -y * x.astype("float64")), "2.0", kind)
    found = run_node(tmp_path, "SoftMarginLoss", [x, y], like(want), "2.0", reduction=kind)
    agrees(found, want)
