"""Windows as columns agree with loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.one_node import Array, Fixed, agrees, floats, like, run_node

Pair = tuple[int, int]


def windows(x: Array, kernel: Pair, stride: Pair, dilation: Pair, pad: Pair) -> Array:
    """Return (N, C, elements of a window, windows)."""
    x = np.pad(x, ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2))
    counts = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)
    ]
    found = np.zeros((*x.shape[:2], *kernel, *counts), x.dtype)
    for i, j, a, b in np.ndindex(*kernel, *counts):
        row, column = a * stride[0] + i * dilation[0], b * stride[1] + j * dilation[1]
        found[:, :, i, j, a, b] = x[:, :, row, column]
    return found.reshape(*x.shape[:2], kernel[0] * kernel[1], -1)


CASES: list[tuple[Pair, Pair, Pair, Pair]] = [
    ((2, 2), (1, 1), (1, 1), (0, 0)),
    ((3, 2), (2, 1), (1, 2), (1, 0)),
    ((1, 3), (3, 2), (2, 1), (0, 2)),
]


@pytest.mark.parametrize(("kernel", "stride", "dilation", "pad"), CASES)
def test_windows_become_columns(
    tmp_path: Path, kernel: Pair, stride: Pair, dilation: Pair, pad: Pair
) -> None:
    x = floats(2, 3, 7, 6)
    x[0, 0, 0, 0] = np.inf
    want = windows(x, kernel, stride, dilation, pad)
    settings = {"ksizes": kernel, "strides": stride, "dilations": dilation, "pads": pad}
    found = run_node(tmp_path, "Im2Col", [x], like(want), "2.0", **settings)
    agrees(found, want)
    joined = want.reshape(2, -1, want.shape[-1])
    given = [x, *(Fixed(v) for v in (kernel, dilation, pad, stride))]
    agrees(run_node(tmp_path, "Im2ColExt", given, like(joined)), joined)


def test_windows_larger_than_the_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="larger than its image"):
        run_node(tmp_path, "Im2Col", [floats(1, 1, 2, 2)], ("float32", (1, 1, 9, 1)), "2.0",
                 ksizes=(3, 3))  # fmt: skip
