"""Holds the answers of one converted operator against those that its definition gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.mindir_files import RELEASES, run_one

Array = np.ndarray[Any, Any]
both_releases = pytest.mark.parametrize("release", RELEASES)


def numbers(*shape: int, seed: int = 5, dtype: str = "float32") -> Array:
    """Return numbers around zero, the same at each call."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def stated(want: Array | Sequence[Array]) -> Any:
    """Return the type that a file states for an answer: one tensor, or a list for a tuple."""
    if isinstance(want, np.ndarray):
        return str(want.dtype), want.shape
    return [(str(w.dtype), w.shape) for w in want]


def check(
    folder: Path,
    operator: str,
    inputs: Sequence[Array],
    want: Array | Sequence[Array],
    attributes: dict[str, Any] | None = None,
    release: str = "2.10",
    tolerance: float = 1e-5,
    **settings: Any,
) -> None:
    """Fail unless types, shapes and numbers are those wanted."""
    found = run_one(folder, release, operator, inputs, stated(want), attributes, **settings)
    wanted = [want] if isinstance(want, np.ndarray) else list(want)
    assert [(f.dtype, f.shape) for f in found] == [(w.dtype, w.shape) for w in wanted]
    for got, right in zip(found, wanted, strict=True):
        if right.dtype.kind == "f":
            np.testing.assert_allclose(got, right, rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(got, right)


def check_refused(
    folder: Path,
    why: str,
    operator: str,
    inputs: Sequence[Array],
    want: Array,
    attributes: dict[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Fail unless the operator is refused, by name and for this reason."""
    with pytest.raises(LoadError, match=why) as caught:
        run_one(folder, "2.10", operator, inputs, stated(want), attributes, **settings)
    assert caught.value.code == "unsupported_operator"
    assert operator in str(caught.value)
