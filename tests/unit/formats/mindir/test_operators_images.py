"""Resizing, padding and transposed convolution agree with their definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.formats.mindir.mindir_files import Net, run_net, run_one

F = "float32"
RNG = np.random.default_rng(5)


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(F)


def source(n: int, out: int, aligned: bool, centred: bool) -> np.ndarray[Any, Any]:
    """Return where in the input each point of the output lies, as the operators' texts say."""
    i = np.arange(out)
    if aligned:
        return i * ((n - 1) / (out - 1))
    return (i + 0.5) * (n / out) - 0.5 if centred else i * (n / out)


@pytest.mark.parametrize(("aligned", "centred"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("size", [(8, 10), (3, 2), (7, 5)])
@pytest.mark.parametrize("release", ["2.0", "2.10"])
def test_bilinear_resize_agrees_with_its_definition(
    tmp_path: Path, release: str, size: tuple[int, int], aligned: bool, centred: bool
) -> None:
    x = floats(2, 3, 4, 5)
    want = x
    for axis, out in zip((2, 3), size, strict=True):
        n = x.shape[axis]
        at = np.clip(source(n, out, aligned, centred), 0, n - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, n - 1)
        part = (at - low).reshape((-1,) + (1,) * (3 - axis))
        want = want.take(low, axis) * (1 - part) + want.take(high, axis) * part
    (y,) = run_one(tmp_path, release, "ResizeBilinearV2", [x], (F, want.shape), size=size,
                   align_corners=aligned, half_pixel_centers=centred)  # fmt: skip
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("aligned", "centred"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("size", [(8, 10), (3, 2)])
def test_nearest_resize_agrees_with_its_definition(
    tmp_path: Path, size: tuple[int, int], aligned: bool, centred: bool
) -> None:
    x = floats(1, 2, 4, 5)
    want = x
    for axis, out in zip((2, 3), size, strict=True):
        n = x.shape[axis]
        at = source(n, out, aligned, centred)
        at = np.floor(at + 0.5) if aligned or centred else np.floor(at)
        want = want.take(np.clip(at.astype(int), 0, n - 1), axis)
    operator = "ResizeNearestNeighborV2" if centred else "ResizeNearestNeighbor"
    (y,) = run_one(tmp_path, "2.10", operator, [x], (F, want.shape), size=size,
                   align_corners=aligned, half_pixel_centers=centred)  # fmt: skip
    np.testing.assert_array_equal(y, want)


def test_pad_takes_a_pair_for_each_axis(tmp_path: Path) -> None:
    x = floats(2, 3)
    pairs = ((1, 0), (2, 3))
    (y,) = run_one(tmp_path, "2.0", "Pad", [x], (F, (3, 8)), {"paddings": pairs})
    np.testing.assert_array_equal(y, np.pad(x, pairs))


def test_mirror_pad_does_not_repeat_the_edge(tmp_path: Path) -> None:
    x = floats(4, 4)
    pairs = np.array([[1, 0], [2, 3]], "int64")
    net = Net()
    given = [net.input("x", F, x.shape), net.constant(pairs)]
    net.output(net.op("MirrorPad", given, (F, (5, 9)), {"mode": "REFLECT"}))
    np.testing.assert_array_equal(run_net(net, tmp_path, x)[0], np.pad(x, pairs, "reflect"))


def test_pad_v3_begins_with_the_last_axis(tmp_path: Path) -> None:
    x = floats(2, 3, 4)
    net = Net()
    given = [net.input("x", F, x.shape), net.constant((1, 2, 3, 0)), net.constant(7.0)]
    net.output(net.op("PadV3", given, (F, (2, 6, 7)), {"mode": "constant"}))
    want = np.pad(x, ((0, 0), (3, 0), (1, 2)), constant_values=7)
    np.testing.assert_array_equal(run_net(net, tmp_path, x)[0], want)


TRANSPOSED: list[tuple[dict[str, Any], tuple[int, int], tuple[int, int]]] = [
    ({"pad_mode": "valid", "stride": (2, 2)}, (9, 9), (0, 0)),
    ({"pad_mode": "same", "stride": (2, 2)}, (8, 8), (0, 1)),
    ({"pad_mode": "pad", "pad_list": (1, 1, 1, 1), "stride": (2, 2)}, (7, 7), (1, 1)),
    ({"pad_mode": "pad", "pad_list": (1, 1, 1, 1), "stride": (2, 2)}, (8, 8), (1, 1)),
]


@pytest.mark.parametrize("number", range(len(TRANSPOSED)))
@pytest.mark.parametrize("varying", [False, True])
def test_transposed_convolution_scatters_its_windows(
    tmp_path: Path, number: int, varying: bool
) -> None:
    settings, size, (top, _) = TRANSPOSED[number]
    x, w = floats(1, 2, 4, 4), floats(2, 3, 3, 3)
    full = np.zeros((1, 3, 12, 12), F)
    for i in range(4):
        for j in range(4):
            full[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.einsum(
                "nc,cohw->nohw", x[:, :, i, j], w
            )
    want = full[:, :, top : top + size[0], top : top + size[1]]
    net = Net()
    shape = (1, 2, -1, -1) if varying else x.shape
    given = [net.input("x", F, shape), net.weight("w", w), net.constant((1, 3, *size))]
    attributes = {"kernel_size": (3, 3), "dilation": (1, 1), "group": 1, **settings}
    stated = (1, 3, -1, -1) if varying else (1, 3, *size)
    net.output(net.op("Conv2DTranspose", given, (F, stated), attributes))
    np.testing.assert_allclose(run_net(net, tmp_path, x)[0], want, rtol=1e-4, atol=1e-5)


def pooled(net: Net, x: np.ndarray[Any, Any], item: int) -> None:
    window = {"kernel_size": (1, 2, 2, 1), "strides": (1, 2, 2, 1), "pad_mode": "VALID"}
    stated: list[Any] = [(F, (1, 2, 2, 2)), ("int32", (1, 2, 2, 2))]
    two = net.op("MaxPoolWithArgmax", [net.input("x", F, x.shape)], stated, window)
    net.output(net.op("TupleGetItem", [two, net.constant(item)], stated[item]))


def test_max_pool_with_argmax_gives_the_largest(tmp_path: Path) -> None:
    x = floats(1, 2, 4, 4)
    net = Net()
    pooled(net, x, 0)
    want = x.reshape(1, 2, 2, 2, 2, 2).max((3, 5))
    np.testing.assert_array_equal(run_net(net, tmp_path, x)[0], want)
