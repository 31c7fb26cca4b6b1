"""Images with their channels last give what the same images give with their channels first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import LoadError
from tests.unit.formats.mindir.mindir_files import RELEASES
from tests.unit.formats.mindir.one_node import Array, agrees, floats, like, run_node

CONVOLUTIONS: list[dict[str, Any]] = [
    {"pad_mode": "valid", "stride": (1, 1, 2, 1)},
    {"pad_mode": "same", "stride": (1, 1, 2, 2)},
    {"pad_mode": "same", "dilation": (1, 1, 2, 1)},
    {"pad_mode": "pad", "pad": (1, 0, 2, 1)},
]


def last(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def convolved(x: Array, w: Array, strides: Any, dilations: Any, pads: Any) -> Array:
    """Return the convolution of images, by its definition; pads are (before, after) of each."""
    x = np.pad(x, ((0, 0), (0, 0), *pads)).astype("float64")
    kernel = w.shape[2:]
    counts = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True)
    ]
    found = np.zeros((len(x), len(w), *counts))
    for i, j, a, b in np.ndindex(*kernel, *counts):
        pixel = x[:, :, a * strides[0] + i * dilations[0], b * strides[1] + j * dilations[1]]
        found[:, :, a, b] += pixel @ w[:, :, i, j].T.astype("float64")
    return found.astype("float32")


def padded(mode: str, lengths: Any, kernel: Any, strides: Any, dilations: Any, pad: Any) -> Any:
    if mode == "same":
        over = [
            max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            for n, k, s, d in zip(lengths, kernel, strides, dilations, strict=True)
        ]
        return [(n // 2, n - n // 2) for n in over]
    return [pad[:2], pad[2:]] if mode == "pad" else [(0, 0)] * 2


@pytest.mark.parametrize("settings", CONVOLUTIONS)
@pytest.mark.parametrize("written", ["NHWC", 1])
def test_convolution_of_channels_last(
    tmp_path: Path, settings: dict[str, Any], written: str | int
) -> None:
    x, w = floats(2, 3, 7, 6), floats(4, 3, 3, 2)
    strides, dilations = (settings.get(n, (1,) * 4)[2:] for n in ("stride", "dilation"))
    pads = padded(settings["pad_mode"], (7, 6), (3, 2), strides, dilations, settings.get("pad"))
    want = last(convolved(x, w, strides, dilations, pads))
    found = run_node(tmp_path, "Conv2D", [last(x), last(w)], like(want), "2.0", format=written,
                     kernel_size=(3, 2), **settings)  # fmt: skip
    agrees(found, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(("operator", "function"), [("MaxPool", np.max), ("AvgPool", np.mean)])
def test_pooling_of_channels_last(
    tmp_path: Path, release: str, operator: str, function: Any
) -> None:
    x = floats(2, 6, 4, 3)
    want = function(x.reshape(2, 3, 2, 2, 2, 3), axis=(2, 4))
    settings = {"kernel_size": (1, 1, 2, 2), "strides": (1, 1, 2, 2)}
    modes: dict[str, Any] = {"pad_mode": 2, "format": 1}
    if release == "2.0":
        modes = {"pad_mode": "VALID", "format": "NHWC"}
    found = run_node(tmp_path, operator, [x], like(want), release, **settings, **modes)
    agrees(found, want)


def test_batch_norm_of_channels_last(tmp_path: Path) -> None:
    x, scale, bias, mean = floats(2, 4, 5, 3), floats(3), floats(3), floats(3)
    variance = np.abs(floats(3)) + 0.5
    want = (x - mean) / np.sqrt(variance + 1e-3) * scale + bias
    row = ("float32", (3,))
    found = run_node(tmp_path, "BatchNorm", [x, scale, bias, mean, variance],
                     [like(x), row, row, row, row], "2.0", outputs=[0], is_training=False,
                     epsilon=1e-3, format="NHWC")  # fmt: skip
    agrees(found, want.astype("float32"), atol=1e-5)


def test_volumes_among_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="in the order NCDHW"):
        run_node(tmp_path, "MaxPool", [floats(1, 1, 2, 2)], ("float32", (1, 1, 2, 2)), "2.0",
                 kernel_size=(1, 1, 1, 1), strides=(1, 1, 1, 1), format="NCDHW")  # fmt: skip
