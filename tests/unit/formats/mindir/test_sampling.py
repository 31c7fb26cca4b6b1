"""Signals, images and volumes resized and sampled as their definitions say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np
import pytest

from tests.unit.formats.mindir.agreement import (
    Array,
    both_releases,
    check,
    check_refused,
    numbers,
)
from tests.unit.formats.mindir.mindir_files import Net, run_net

Places = Callable[[int, int], Array]


def taken(x: Array, size: Sequence[int], places: Places) -> Array:
    """Return the points of each axis behind batch and channels at places of a new size."""
    for axis, count in enumerate(size, 2):
        x = x.take(places(x.shape[axis], count), axis)
    return x


def mixed(x: Array, size: Sequence[int], source: Callable[[int, int], Array]) -> Array:
    """Return linear interpolation at real places, the edge going on beyond itself."""
    for axis, count in enumerate(size, 2):
        length = x.shape[axis]
        at = np.clip(source(length, count), 0, length - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, length - 1)
        part = (at - low).reshape((-1,) + (1,) * (x.ndim - 1 - axis))
        x = x.take(low, axis) * (1 - part) + x.take(high, axis) * part
    return x.astype("f4")


def before(n: int, m: int) -> Array:
    return np.array([i * n // m for i in range(m)])


def corners(n: int, m: int) -> Array:
    return np.array([math.floor(i * (n - 1) / (m - 1) + 0.5) for i in range(m)])


def middles(n: int, m: int) -> Array:
    return np.array([(2 * i + 1) * n // (2 * m) for i in range(m)])


SIZES = [(8, 10), (12, 5), (3, 2), (7, 9), (8, 4), (21, 30)]


@both_releases
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("operator", ["ResizeNearestNeighbor", "ResizeNearestNeighborV2"])
def test_nearest_takes_the_point_before(
    tmp_path: Path, release: str, operator: str, size: tuple[int, int]
) -> None:
    x = numbers(2, 3, 14, 6)
    want = taken(x, size, before)
    check(tmp_path, operator, [x], want, release=release, tolerance=0, size=size,
          align_corners=False, half_pixel_centers=False)  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("settings", "places"), [((True, False), corners), ((False, True), middles)]
)
def test_nearest_aligns_corners_or_middles(
    tmp_path: Path, size: tuple[int, int], settings: tuple[bool, bool], places: Places
) -> None:
    x = numbers(2, 3, 14, 6)
    aligned, centred = settings
    check(tmp_path, "ResizeNearestNeighborV2", [x], taken(x, size, places), tolerance=0, size=size,
          align_corners=aligned, half_pixel_centers=centred)  # fmt: skip


def test_nearest_of_old_refuses_half_pixels(tmp_path: Path) -> None:
    x = numbers(1, 1, 4, 4)
    check_refused(tmp_path, "half_pixel_centers", "ResizeNearestNeighbor", [x], x, size=(4, 4),
                  align_corners=False, half_pixel_centers=True)  # fmt: skip


def test_nearest_resizes_images_whose_size_varies(tmp_path: Path) -> None:
    net = Net()
    given = [net.input("x", "float32", (-1, 2, -1, -1)), net.constant((9, 5))]
    given += [net.constant(False), net.constant(False)]
    net.output(net.op("ResizeNearestNeighborV2", given, ("float32", (-1, 2, 9, 5))))
    for shape in ((1, 2, 4, 7), (3, 2, 13, 5)):
        x = numbers(*shape)
        np.testing.assert_array_equal(run_net(net, tmp_path, x)[0], taken(x, (9, 5), before))


@pytest.mark.parametrize("shape", [(2, 3, 9), (2, 3, 6, 7), (1, 2, 4, 5, 6)])
def test_upsample_nearest_takes_the_point_before(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = numbers(*shape)
    size = tuple(n * 2 - 3 for n in shape[2:])
    operator = f"UpsampleNearest{len(size)}D"
    check(tmp_path, operator, [x], taken(x, size, before), tolerance=0, output_size=size,
          scales=None)  # fmt: skip


def test_upsample_nearest_divides_places_by_its_factors(tmp_path: Path) -> None:
    x = numbers(2, 3, 6, 7)
    factors = (1.7, 2.3)
    want = x
    for axis, factor in enumerate(factors, 2):
        count = math.floor(x.shape[axis] * factor)
        want = want.take([math.floor(i / factor) for i in range(count)], axis)
    check(tmp_path, "UpsampleNearest2D", [x], want, output_size=None, scales=factors)


def source(aligned: bool) -> Callable[[int, int], Array]:
    if aligned:
        return lambda n, m: np.arange(m) * (n - 1) / (m - 1)
    return lambda n, m: (np.arange(m) + 0.5) * n / m - 0.5


LINEAR = {1: "UpsampleLinear1D", 2: "UpsampleBilinear2D", 3: "UpsampleTrilinear3D"}


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 9), (2, 3, 6, 7), (1, 2, 4, 5, 6)])
@pytest.mark.parametrize("grows", [False, True])
def test_upsample_linear_mixes_neighbours(
    tmp_path: Path, shape: tuple[int, ...], aligned: bool, grows: bool
) -> None:
    x = numbers(*shape)
    size = tuple(n * 2 - 1 if grows else n - 2 for n in shape[2:])
    check(tmp_path, LINEAR[len(size)], [x], mixed(x, size, source(aligned)), output_size=size,
          scales=None, align_corners=aligned)  # fmt: skip


def test_upsample_linear_divides_places_by_its_factors(tmp_path: Path) -> None:
    x = numbers(2, 3, 6, 7)
    factors = {6: 1.7, 7: 2.3}

    def divided(n: int, m: int) -> Array:
        return (np.arange(m) + 0.5) / factors[n] - 0.5

    want = mixed(x, (10, 16), divided)
    check(tmp_path, "UpsampleBilinear2D", [x], want, output_size=None, scales=(1.7, 2.3),
          align_corners=False)  # fmt: skip


@pytest.mark.parametrize("aligned", [False, True])
def test_upsample_bicubic_convolves_four_neighbours(tmp_path: Path, aligned: bool) -> None:
    x = numbers(1, 2, 6, 7)
    size = (11, 9)
    want = x.astype(float)
    for axis, count in enumerate(size, 2):
        n = x.shape[axis]
        total: Any = 0
        for i, at in enumerate(source(aligned)(n, count)):
            first = math.floor(at) - 1
            piece: Any = 0
            for k in range(first, first + 4):
                piece = piece + cubic(at - k) * want.take([min(max(k, 0), n - 1)], axis)
            total = piece if i == 0 else np.concatenate([total, piece], axis)
        want = total
    check(tmp_path, "UpsampleBicubic2D", [x], want.astype("f4"), output_size=size, scales=None,
          align_corners=aligned)  # fmt: skip


def cubic(distance: float) -> float:
    """Return the weight of a point at a distance, by Keys' kernel with a of -0.75."""
    d, a = abs(distance), -0.75
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


@both_releases
@pytest.mark.parametrize(("word", "number"), [("align_corners", 1), ("half_pixel", 2)])
def test_resize_linear_takes_a_word_or_its_number(
    tmp_path: Path, release: str, word: str, number: int
) -> None:
    x = numbers(2, 3, 9)
    want = mixed(x, (13,), source(word == "align_corners"))
    where: Any = word if release == "2.0" else number
    check(tmp_path, "ResizeLinear1D", [x], want, release=release, size=(13,),
          coordinate_transformation_mode=where)  # fmt: skip


def test_resize_bicubic_is_refused_for_its_table(tmp_path: Path) -> None:
    x = numbers(1, 1, 4, 4)
    check_refused(tmp_path, "table", "ResizeBicubic", [x], x, size=(4, 4), align_corners=False,
                  half_pixel_centers=False)  # fmt: skip


BEYOND = ("zeros", "border", "reflection")


@both_releases
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("beyond", BEYOND)
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_grid_sample_looks_up_points(
    tmp_path: Path, release: str, mode: str, beyond: str, aligned: bool
) -> None:
    x, grid = numbers(2, 3, 6, 7), numbers(2, 5, 4, 2, seed=8)
    want = np.zeros((2, 3, 5, 4), "f4")
    for n, i, j in np.ndindex(2, 5, 4):
        place = [
            inside(float(grid[n, i, j, 1 - k]), x.shape[2 + k], beyond, aligned) for k in range(2)
        ]
        want[n, :, i, j] = sampled(x[n], place[0], place[1], mode)
    words: Any = (mode, beyond)
    if release == "2.10":
        words = (("bilinear", "nearest").index(mode), BEYOND.index(beyond))
    check(tmp_path, "GridSampler2D", [x, grid], want, release=release, tolerance=1e-4,
          interpolation_mode=words[0], padding_mode=words[1], align_corners=aligned)  # fmt: skip


def inside(at: float, length: int, beyond: str, aligned: bool) -> float:
    """Return the pixel that -1..1 means, brought back into the image if it is to be."""
    low, high = (0, length - 1) if aligned else (-0.5, length - 0.5)
    place = low + (at + 1) / 2 * (high - low)
    if beyond == "reflection":
        while not low <= place <= high:
            place = 2 * low - place if place < low else 2 * high - place
    return place if beyond == "zeros" else min(max(place, 0), length - 1)


def sampled(image: Array, y: float, x: float, mode: str) -> Array:
    if mode == "nearest":
        return pixel(image, round(y), round(x))
    top, left = math.floor(y), math.floor(x)
    down, along = y - top, x - left
    above = pixel(image, top, left) * (1 - along) + pixel(image, top, left + 1) * along
    below = pixel(image, top + 1, left) * (1 - along) + pixel(image, top + 1, left + 1) * along
    return above * (1 - down) + below * down


def pixel(image: Array, y: int, x: int) -> Array:
    height, width = image.shape[1:]
    there = 0 <= y < height and 0 <= x < width
    return image[:, y, x] if there else np.zeros(image.shape[0])
