"""Convolutions over volumes, and those of mint, agree with sums over their windows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import pytest

from tests.unit.formats.mindir.agreement import Array, check, check_refused, numbers


def convolved(
    x: Array, w: Array, strides: Sequence[int], dilations: Sequence[int],
    pads: Sequence[tuple[int, int]], group: int = 1,
) -> Array:  # fmt: skip
    """Return the sum over each window, of any number of axes."""
    x = np.pad(x.astype(float), ((0, 0), (0, 0), *pads))
    kernel = w.shape[2:]
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    size = [(n - r) // s + 1 for n, r, s in zip(x.shape[2:], reach, strides, strict=True)]
    want = np.zeros((x.shape[0], w.shape[0], *size))
    per, each = w.shape[0] // group, x.shape[1] // group
    for g in range(group):
        part = x[:, g * each : (g + 1) * each]
        for place in np.ndindex(*size):
            window = part[
                (slice(None), slice(None),
                 *(slice(p * s, p * s + r, d) for p, s, r, d
                   in zip(place, strides, reach, dilations, strict=True)))
            ]  # fmt: skip
            chosen = w[g * per : (g + 1) * per].reshape(per, -1)
            answer = window.reshape(x.shape[0], -1) @ chosen.T
            want[(slice(None), slice(g * per, (g + 1) * per), *place)] = answer
    return want.astype("f4")


def scattered(
    x: Array, w: Array, strides: Sequence[int], dilations: Sequence[int],
    pads: Sequence[tuple[int, int]], size: Sequence[int], group: int = 1,
) -> Array:  # fmt: skip
    """Return each point spread over its window, then cut at begin and to a size."""
    count, each, per = x.shape[0], x.shape[1] // group, w.shape[1]
    whole = [64] * len(size)
    want = np.zeros((count, per * group, *whole))
    for g in range(group):
        taken = slice(g * each, (g + 1) * each)
        for place in np.ndindex(*x.shape[2:]):
            for k in np.ndindex(*w.shape[2:]):
                at = tuple(
                    p * s + d * i for p, s, d, i in zip(place, strides, dilations, k, strict=True)
                )
                point = x[(slice(None), taken, *place)] @ w[(taken, slice(None), *k)]
                want[(slice(None), slice(g * per, (g + 1) * per), *at)] += point
    cut = tuple(slice(b, b + n) for (b, _), n in zip(pads, size, strict=True))
    return want[(slice(None), slice(None), *cut)].astype("f4")


def same(lengths: Sequence[int], kernel: Sequence[int], strides: Sequence[int]) -> Any:
    """Return the padding that gives ``ceil(length / stride)``, the odd one at the end."""
    found = []
    for n, k, s in zip(lengths, kernel, strides, strict=True):
        total = max((math.ceil(n / s) - 1) * s + k - n, 0)
        found.append((total // 2, total - total // 2))
    return found


VOLUMES = [
    ("valid", (0,) * 6, (1, 2, 1), (1, 1, 1), 1),
    ("valid", (0,) * 6, (1, 1, 1), (1, 2, 1), 2),
    ("same", (0,) * 6, (2, 1, 2), (1, 1, 1), 1),
    ("pad", (1, 1, 0, 1, 2, 1), (1, 2, 1), (1, 1, 2), 1),
]


@pytest.mark.parametrize(("mode", "pads", "strides", "dilations", "group"), VOLUMES)
def test_conv3d_sums_over_its_windows(
    tmp_path: Path, mode: str, pads: Any, strides: Any, dilations: Any, group: int
) -> None:
    x, w = numbers(2, 4, 5, 6, 7), numbers(6, 4 // group, 3, 2, 3, seed=8)
    pairs = [(pads[0], pads[1]), (pads[2], pads[3]), (pads[4], pads[5])]
    if mode == "same":
        pairs = same(x.shape[2:], w.shape[2:], strides)
    attributes = {
        "kernel_size": (3, 2, 3), "pad_mode": mode, "pad_list": pads, "stride": strides,
        "strides": (1, 1, *strides), "dilations": (1, 1, *dilations), "group": group,
        "format": "NCDHW",
    }  # fmt: skip
    want = convolved(x, w, strides, dilations, pairs, group)
    check(tmp_path, "Conv3D", [x, w], want, attributes, tolerance=1e-4)


@pytest.mark.parametrize(
    ("mode", "pads", "size"),
    [("valid", (0,) * 6, (7, 8, 11)), ("same", (0,) * 6, (6, 8, 10)),
     ("pad", (1, 1, 0, 1, 2, 1), (5, 7, 8)), ("pad", (1, 1, 0, 1, 2, 1), (6, 7, 9))],
)  # fmt: skip
def test_conv3d_transpose_spreads_over_its_windows(
    tmp_path: Path, mode: str, pads: Any, size: Any
) -> None:
    x, w, strides = numbers(2, 3, 3, 4, 5), numbers(3, 4, 3, 2, 3, seed=8), (2, 2, 2)
    pairs = [(pads[0], 0), (pads[2], 0), (pads[4], 0)]
    if mode == "same":
        reach = [(n - 1) * 2 + k - t for n, k, t in zip((3, 4, 5), (3, 2, 3), size, strict=True)]
        pairs = [(max(r, 0) // 2, 0) for r in reach]
    attributes = {
        "kernel_size": (3, 2, 3), "pad_mode": mode, "pad_list": pads, "strides": (1, 1, *strides),
        "dilations": (1, 1, 1, 1, 1), "group": 1, "format": "NCDHW",
    }  # fmt: skip
    want = scattered(x, w, strides, (1, 1, 1), pairs, size)
    check(tmp_path, "Conv3DTranspose", [x, w], want, attributes, tolerance=1e-4)


def test_conv3d_refuses_another_order_of_axes(tmp_path: Path) -> None:
    x, w = numbers(1, 1, 2, 2, 2), numbers(1, 1, 1, 1, 1)
    attributes = {"kernel_size": (1, 1, 1), "pad_mode": "valid", "format": "NDHWC"}
    check_refused(tmp_path, "NDHWC", "Conv3D", [x, w], x, attributes)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch", [False, True])
def test_convolutions_of_mint_take_a_number_for_each_axis(
    tmp_path: Path, axes: int, bias: bool, batch: bool
) -> None:
    x, w = numbers(2 if batch else 1, 4, *(6, 7, 5)[:axes]), numbers(6, 2, *(3, 2, 3)[:axes])
    strides, padding, dilations = (2, 1, 1)[:axes], (1, 0, 2)[:axes], (1, 2, 1)[:axes]
    want = convolved(x, w, strides, dilations, [(p, p) for p in padding], 2)
    given = [x if batch else x[0], w]
    rest: dict[str, Any] = {} if bias else {"bias": None}
    if bias:
        given.append(numbers(6, seed=4))
        want = want + given[2].reshape(-1, *[1] * axes)
    check(
        tmp_path, f"Conv{axes}DExt", given, want if batch else want[0], tolerance=1e-4,
        **rest, stride=strides, padding=padding, dilation=dilations, groups=2,
    )  # fmt: skip


@pytest.mark.parametrize("word", [1, 2])
def test_convolution_of_mint_pads_by_a_word(tmp_path: Path, word: int) -> None:
    x, w = numbers(2, 3, 6, 7), numbers(4, 3, 3, 2)
    pads = [(1, 1), (0, 1)] if word == 1 else [(0, 0), (0, 0)]
    want = convolved(x, w, (1, 1), (1, 1), pads)
    check(tmp_path, "Conv2DPadding", [x, w], want, tolerance=1e-4, bias=None, stride=1,
          padding=word, dilation=1, groups=1)  # fmt: skip


@pytest.mark.parametrize("operator", ["Convolution", "ConvTranspose2D"])
@pytest.mark.parametrize("group", [1, 2])
def test_transposed_convolution_of_mint_spreads_over_its_windows(
    tmp_path: Path, operator: str, group: int
) -> None:
    x, w = numbers(2, 4, 4, 5), numbers(4, 3, 3, 2, seed=8)
    strides, padding, added, dilations = (2, 1), (1, 0), (1, 0), (1, 2)
    size = [
        (n - 1) * s + d * (k - 1) + 1 - 2 * p + a
        for n, s, d, k, p, a in zip((4, 5), strides, dilations, (3, 2), padding, added, strict=True)
    ]
    want = scattered(x, w, strides, dilations, [(p, p) for p in padding], size, group)
    first: dict[str, Any] = {"bias": None, "stride": strides, "padding": padding}
    rest: dict[str, Any] = {"output_padding": added, "groups": group, "dilation": dilations}
    if operator == "Convolution":
        rest = {"dilation": dilations, "transposed": True, "output_padding": added,
                "groups": group}  # fmt: skip
    check(tmp_path, operator, [x, w], want, tolerance=1e-4, **first, **rest)
