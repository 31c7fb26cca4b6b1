"""Products with sums around them agree with numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.mindir_files import RELEASES
from tests.unit.formats.mindir.one_node import agrees, floats, like, run_node


@pytest.mark.parametrize(("operator", "one", "other"), [
    ("Mm", (2, 3), (3, 4)), ("Mv", (2, 3), (3,)), ("Dot", (3,), (3,)),
])  # fmt: skip
def test_plain_product_agrees_with_numpy(
    tmp_path: Path, operator: str, one: tuple[int, ...], other: tuple[int, ...]
) -> None:
    x, y = floats(*one), floats(*other)
    expected = np.asarray(x @ y)
    agrees(run_node(tmp_path, operator, [x, y], like(expected)), expected)


@pytest.mark.parametrize("operator", ["Outer", "Ger"])
def test_outer_product_agrees_with_numpy(tmp_path: Path, operator: str) -> None:
    x, y = floats(3), floats(4)
    agrees(run_node(tmp_path, operator, [x, y], ("float32", (3, 4))), np.outer(x, y))


ADDED: dict[str, Any] = {
    "Addmm": ((4,), (2, 3), (3, 4), lambda a, b: a @ b),
    "Addmv": ((2,), (2, 3), (3,), lambda a, b: a @ b),
    "Baddbmm": ((5, 2, 4), (5, 2, 3), (5, 3, 4), lambda a, b: a @ b),
    "Addbmm": ((2, 4), (5, 2, 3), (5, 3, 4), lambda a, b: (a @ b).sum(0)),
}


@pytest.mark.parametrize(("beta", "alpha"), [(1, 1), (2, 0.5), (0, 3)])
@pytest.mark.parametrize("operator", sorted(ADDED))
def test_product_is_added_to_a_tensor(
    tmp_path: Path, operator: str, beta: float, alpha: float
) -> None:
    shape, one, other, product = ADDED[operator]
    x, a, b = floats(*shape), floats(*one), floats(*other)
    expected = (beta * x + alpha * product(a, b)).astype("float32")
    if beta == 0:
        x = np.full_like(x, np.nan)
    found = run_node(tmp_path, operator, [x, a, b], like(expected), beta=beta, alpha=alpha)
    agrees(found, expected, rtol=1e-4)


@pytest.mark.parametrize("release", RELEASES)
def test_einsum_agrees_with_numpy(tmp_path: Path, release: str) -> None:
    a, b = floats(2, 3, 4), floats(2, 4, 5)
    expected = np.einsum("bij,bjk->bki", a, b)
    found = run_node(tmp_path, "Einsum", [[a, b]], like(expected), release, equation="bij,bjk->bki")
    agrees(found, np.ascontiguousarray(expected))


def test_embedding_reads_the_padding_row_as_it_is(tmp_path: Path) -> None:
    indices, table = np.array([[0, 4], [2, 2]], "int32"), floats(5, 3)
    found = run_node(
        tmp_path, "Embedding", [indices, table], ("float32", (2, 2, 3)), padding_idx=2,
        max_norm=None, norm_type=2.0, scale_grad_by_freq=False,
    )  # fmt: skip
    agrees(found, table[indices])


def test_embedding_with_a_greatest_norm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="max_norm"):
        run_node(
            tmp_path, "Embedding", [np.array([1]), floats(5, 3)], ("float32", (1, 3)),
            padding_idx=None, max_norm=1.0, norm_type=2.0, scale_grad_by_freq=False,
        )  # fmt: skip


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(("dim", "axis"), [(-65530, 1), (-1, 2), (1, 1)])
def test_cross_product_agrees_with_numpy(tmp_path: Path, release: str, dim: int, axis: int) -> None:
    x, y = floats(2, 3, 3), floats(2, 3, 3)
    expected = np.cross(x, y, axis=axis)
    agrees(run_node(tmp_path, "Cross", [x, y], like(x), release, dim=dim), expected)


def test_cross_product_of_other_vectors_is_refused(tmp_path: Path) -> None:
    x = floats(2, 4)
    with pytest.raises(LoadError, match="no axis of length 3"):
        run_node(tmp_path, "Cross", [x, x], like(x), dim=-65530)
