"""Boxes decoded, suppressed, compared, pooled and cropped as their definitions say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.formats.mindir.agreement import Array, check, check_refused, numbers


def boxes(count: int, side: float, seed: int = 3) -> Array:
    """Return (x1, y1, x2, y2) with some width and height."""
    rng = np.random.default_rng(seed)
    first = rng.uniform(0, side, (count, 2))
    return np.concatenate([first, first + rng.uniform(1, side / 2, (count, 2))], 1).astype("f4")


def decoded(anchor: Array, delta: Array, means: Any, stds: Any, clip: float, shape: Any) -> Any:
    dx, dy, dw, dh = (delta * stds + means).tolist()
    most = abs(math.log(clip))
    dw, dh = min(max(dw, -most), most), min(max(dh, -most), most)
    x1, y1, x2, y2 = anchor.tolist()
    width, height = x2 - x1 + 1, y2 - y1 + 1
    x, y = (x1 + x2) / 2 + width * dx, (y1 + y2) / 2 + height * dy
    width, height = width * math.exp(dw), height * math.exp(dh)
    ends = (x - width / 2 + 0.5, y - height / 2 + 0.5, x + width / 2 - 0.5, y + height / 2 - 0.5)
    limits = (shape[1], shape[0], shape[1], shape[0])
    return [min(max(e, 0), m) for e, m in zip(ends, limits, strict=True)]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("clip", [0.016, 0.5])
def test_bounding_boxes_are_decoded_and_cut_to_the_image(
    tmp_path: Path, clip: float, dtype: str
) -> None:
    anchors, deltas = boxes(12, 60).astype(dtype), numbers(12, 4, dtype=dtype) * 2
    means, stds = (0.1, 0.0, -0.1, 0.2), (0.1, 0.2, 0.5, 1.0)
    shape = (48, 64)
    rows = [decoded(a, d, means, stds, clip, shape) for a, d in zip(anchors, deltas, strict=True)]
    attributes = {"means": means, "stds": stds, "max_shape": shape, "wh_ratio_clip": clip}
    tolerance = 1e-5 if dtype == "float32" else 1e-2
    want = np.array(rows, dtype)
    check(tmp_path, "BoundingBoxDecode", [anchors, deltas], want, attributes, tolerance=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_boxes_are_encoded_from_their_anchors(tmp_path: Path, dtype: str) -> None:
    anchors, truths = (boxes(20, 40, seed).astype(dtype) for seed in (3, 9))
    means, stds = (0.1, 0.0, -0.2, 0.3), (0.5, 1.0, 0.25, 2.0)
    rows = []
    for (x1, y1, x2, y2), (u1, v1, u2, v2) in zip(anchors.tolist(), truths.tolist(), strict=True):
        width, height = x2 - x1 + 1, y2 - y1 + 1
        change = np.array([
            ((u1 + u2) - (x1 + x2)) / 2 / width, ((v1 + v2) - (y1 + y2)) / 2 / height,
            math.log((u2 - u1 + 1) / width), math.log((v2 - v1 + 1) / height),
        ])  # fmt: skip
        rows.append((change - means) / stds)
    want = np.array(rows, dtype)
    tolerance = 1e-5 if dtype == "float32" else 1e-2
    attributes = {"means": means, "stds": stds}
    check(tmp_path, "BoundingBoxEncode", [anchors, truths], want, attributes, tolerance=tolerance)


def suppressed(rows: Array, threshold: float) -> list[bool]:
    """Return which rows remain, the first of two that overlap winning; all as written."""
    kept: list[bool] = []
    for j, (x1, y1, x2, y2, _) in enumerate(rows):
        alive = True
        for i, (u1, v1, u2, v2, _) in enumerate(rows[:j]):
            shared = max(min(x2, u2) - max(x1, u1), 0) * max(min(y2, v2) - max(y1, v1), 0)
            union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared
            alive = alive and not (kept[i] and union and shared / union > threshold)
        kept.append(alive)
    return kept


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("turned", [False, True])
def test_nms_keeps_the_best_of_boxes_that_overlap(
    tmp_path: Path, threshold: float, turned: bool
) -> None:
    found = boxes(80, 20)
    if turned:  # ends exchanged: such a box covers nothing
        found[::3, :2], found[::3, 2:] = found[::3, 2:].copy(), found[::3, :2].copy()
    scores = np.random.default_rng(4).permutation(80)[:, None] / 80
    scored = np.concatenate([found, scores], 1).astype("f4")
    ordered = scored[np.argsort(-scored[:, 4])]
    want = [ordered, np.arange(80, dtype="i4"), np.array(suppressed(ordered, threshold))]
    assert not want[2].all()
    check(tmp_path, "NMSWithMask", [scored], want, {"iou_threshold": threshold})


def test_nms_takes_half_precision(tmp_path: Path) -> None:
    scored = np.array([[0, 0, 4, 4, 0.5], [0, 0, 4, 3, 0.75], [5, 5, 9, 9, 0.25]], "f2")
    want = [scored[[1, 0, 2]], np.arange(3, dtype="i4"), np.array([True, False, True])]
    check(tmp_path, "NMSWithMask", [scored], want, {"iou_threshold": 0.5})


@pytest.mark.parametrize("mode", ["iou", "iof"])
def test_overlap_counts_both_ends_of_boxes(tmp_path: Path, mode: str) -> None:
    anchors, truths = boxes(5, 20), boxes(7, 20, seed=4)
    want = np.zeros((7, 5), "f4")
    for i, (u1, v1, u2, v2) in enumerate(truths):
        for j, (x1, y1, x2, y2) in enumerate(anchors):
            shared = max(min(x2, u2) - max(x1, u1) + 1, 0) * max(min(y2, v2) - max(y1, v1) + 1, 0)
            truth, anchor = (u2 - u1 + 1) * (v2 - v1 + 1), (x2 - x1 + 1) * (y2 - y1 + 1)
            want[i, j] = shared / (truth if mode == "iof" else truth + anchor - shared)
    assert (want > 0).any()
    check(tmp_path, "IOU", [anchors, truths], want, {"mode": mode})


def test_valid_boxes_lie_in_the_image(tmp_path: Path) -> None:
    image = np.array([20, 30, 1.5], "f4")
    given = np.array(
        [[0, 0, 44, 29], [-1, 0, 5, 5], [0, -0.5, 5, 5], [0, 0, 44.5, 9], [0, 0, 9, 29.5]], "f4"
    )
    want = np.array([True, False, False, False, False])
    check(tmp_path, "CheckValid", [given, image], want)


def between(image: Array, y: float, x: float) -> Array:
    """Return a channel-first image at a point, as bilinear interpolation has it."""
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(image.shape[0])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    above = image[:, top, left] * (left + 1 - x) + image[:, top, right] * (x - left)
    below = image[:, bottom, left] * (left + 1 - x) + image[:, bottom, right] * (x - left)
    return above * (top + 1 - y) + below * (y - top)


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_roi_align_averages_samples_in_each_cell(
    tmp_path: Path, mode: int, samples: int, dtype: str
) -> None:
    features = numbers(2, 3, 8, 9, dtype=dtype)
    rois = np.array([[0, 1, 2, 30, 25], [1, 5, 6, 5.5, 7], [0, 20, 3, 41, 33]], dtype)
    rows, columns, scale = 3, 2, 0.25
    want = np.zeros((3, 3, rows, columns))
    for n, (image, x1, y1, x2, y2) in enumerate(rois.astype(float)):
        x1, y1, x2, y2 = (v * scale for v in (x1, y1, x2 + mode, y2 + mode))
        width, height = x2 - x1, y2 - y1
        if mode == 0:
            width, height = max(width, 1), max(height, 1)
        for i in range(rows):
            for j in range(columns):
                for a in range(samples):
                    for b in range(samples):
                        y = y1 + height / rows * (i + (a + 0.5) / samples)
                        x = x1 + width / columns * (j + (b + 0.5) / samples)
                        want[n, :, i, j] += between(features[int(image)], y, x) / samples**2
    attributes = {
        "pooled_height": rows, "pooled_width": columns, "spatial_scale": scale,
        "sample_num": samples, "roi_end_mode": mode,
    }  # fmt: skip
    tolerance = 1e-5 if dtype == "float32" else 1e-2
    check(tmp_path, "ROIAlign", [features, rois], want.astype(dtype), attributes,
          tolerance=tolerance)  # fmt: skip


def test_roi_align_refuses_a_number_of_samples_that_depends_on_the_region(tmp_path: Path) -> None:
    attributes = {"pooled_height": 2, "pooled_width": 2, "spatial_scale": 1.0, "sample_num": 0}
    given = [numbers(1, 1, 4, 4), np.zeros((1, 5), "f4")]
    want = np.zeros((1, 1, 2, 2), "f4")
    check_refused(tmp_path, "number of samples", "ROIAlign", given, want, attributes)


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
@pytest.mark.parametrize("crop", [(4, 5), (1, 3), (1, 1)])
def test_crops_lie_evenly_over_their_boxes(
    tmp_path: Path, method: str, crop: tuple[int, int]
) -> None:
    images = numbers(2, 6, 7, 3)
    given = np.random.default_rng(9).uniform(-0.2, 1.15, (5, 4)).astype("f4")
    which = np.array([0, 1, 1, 0, 1], "i4")
    want = np.full((5, *crop, 3), -9.0, "f4")
    for n, (y1, x1, y2, x2) in enumerate(given.astype(float)):
        image = images[which[n]].transpose(2, 0, 1)
        for i in range(crop[0]):
            for j in range(crop[1]):
                y = (y1 + i * (y2 - y1) / (crop[0] - 1) if crop[0] > 1 else (y1 + y2) / 2) * 5
                x = (x1 + j * (x2 - x1) / (crop[1] - 1) if crop[1] > 1 else (x1 + x2) / 2) * 6
                if 0 <= y <= 5 and 0 <= x <= 6:
                    near = image[:, math.floor(y + 0.5), math.floor(x + 0.5)]
                    want[n, i, j] = near if method == "nearest" else between(image, y, x)
    attributes = {"method": method, "extrapolation_value": -9.0, "crop_size": crop}
    assert (want == -9).any()
    assert (want != -9).any()
    check(tmp_path, "CropAndResize", [images, given, which], want, attributes, tolerance=1e-4)


def test_crop_refuses_a_method_that_it_does_not_know(tmp_path: Path) -> None:
    given = [numbers(1, 4, 4, 1), np.zeros((1, 4), "f4"), np.zeros(1, "i4")]
    want = np.zeros((1, 2, 2, 1), "f4")
    check_refused(
        tmp_path, "bilinear_v2", "CropAndResize", given, want,
        {"method": "bilinear_v2", "crop_size": (2, 2)},
    )  # fmt: skip
