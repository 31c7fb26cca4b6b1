"""Pooling over signals, images and volumes agrees with loops over the windows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import pytest

from serving.errors import LoadError
from serving.formats.mindir.convert import convert
from tests.unit.formats.mindir.agreement import Array, check, numbers
from tests.unit.formats.mindir.mindir_files import Net, run_net

Pairs = Sequence[tuple[int, int]]


def windows(
    x: Array, kernel: Sequence[int], strides: Sequence[int], pads: Pairs,
    dilations: Sequence[int], ceil: bool,
) -> tuple[list[int], list[list[list[int]]]]:  # fmt: skip
    """Return the size, and for each axis and window its places; padding lies outside of 0..n."""
    size, places = [], []
    for n, k, s, (b, e), d in zip(
        x.shape[-len(kernel) :], kernel, strides, pads, dilations, strict=True
    ):
        room = n + b + e - d * (k - 1) - 1
        count = (-(-room // s) if ceil else room // s) + 1
        if ceil and (count - 1) * s >= n + b:
            count -= 1
        size.append(count)
        places.append([[i * s - b + d * j for j in range(k)] for i in range(count)])
    return size, places


def average(
    x: Array, kernel: Sequence[int], strides: Sequence[int], pads: Pairs, ceil: bool = False,
    counts: bool = True, divisor: int = 0,
) -> Array:  # fmt: skip
    """Return means; padding counts if asked to, what lies beyond the padding never does."""
    lengths = x.shape[-len(kernel) :]
    size, places = windows(x, kernel, strides, pads, (1,) * len(kernel), ceil)
    want = np.zeros((*x.shape[: -len(kernel)], *size))
    for at in np.ndindex(*size):
        total: Any = 0.0
        count = 0
        for j in np.ndindex(*kernel):
            place = [p[a][i] for p, a, i in zip(places, at, j, strict=True)]
            if all(0 <= p < n for p, n in zip(place, lengths, strict=True)):
                total = total + x[(..., *place)]
                count += 1
            elif counts:
                ends = zip(place, lengths, pads, strict=True)
                count += all(-b <= p < n + e for p, n, (b, e) in ends)
        want[(..., *at)] = total / (divisor or count)
    return want.astype("f4")


def largest(
    x: Array, kernel: Sequence[int], strides: Sequence[int], pads: Pairs,
    dilations: Sequence[int] | None = None, ceil: bool = False,
) -> tuple[Array, Array]:  # fmt: skip
    """Return the largest of windows, and its place in the axes that are pooled, row by row."""
    axes = len(kernel)
    lengths, front = x.shape[-axes:], x.shape[:-axes]
    size, places = windows(x, kernel, strides, pads, dilations or (1,) * axes, ceil)
    value, found = np.full((*front, *size), -np.inf), np.zeros((*front, *size), "i8")
    for lead in np.ndindex(*front):
        for at in np.ndindex(*size):
            for j in np.ndindex(*kernel):
                place = tuple(p[a][i] for p, a, i in zip(places, at, j, strict=True))
                there = all(0 <= p < n for p, n in zip(place, lengths, strict=True))
                if there and x[lead + place] > value[lead + at]:
                    value[lead + at] = x[lead + place]
                    found[lead + at] = np.ravel_multi_index(place, lengths)
    return value.astype("f4"), found


def same(lengths: Sequence[int], kernel: Sequence[int], strides: Sequence[int]) -> Pairs:
    totals = [
        max((math.ceil(n / s) - 1) * s + k - n, 0)
        for n, k, s in zip(lengths, kernel, strides, strict=True)
    ]
    return [(t // 2, t - t // 2) for t in totals]


CASES: list[tuple[str, tuple[int, ...], tuple[int, ...], tuple[int, ...], bool]] = [
    ("VALID", (2, 2, 2), (2, 2, 2), (0,) * 6, False),
    ("SAME", (3, 3, 2), (2, 2, 2), (0,) * 6, False),
    ("CALCULATED", (3, 3, 3), (2, 2, 2), (1, 1, 0, 1, 1, 0), False),
    ("CALCULATED", (3, 3, 3), (2, 2, 2), (1,) * 6, True),
    ("PAD", (2, 3, 2), (2, 2, 3), (1, 0, 1, 1, 0, 1), True),
]


def volume(case: int) -> tuple[dict[str, Any], Pairs]:
    mode, kernel, strides, pads, ceil = CASES[case]
    attributes = {
        "kernel_size": (1, 1, *kernel), "strides": (1, 1, *strides), "pad_mode": mode,
        "pad_list": pads, "ceil_mode": ceil, "format": "NCDHW",
    }  # fmt: skip
    pairs: Pairs = [(pads[i], pads[i + 1]) for i in (0, 2, 4)]
    return attributes, same((5, 6, 7), kernel, strides) if mode == "SAME" else pairs


@pytest.mark.parametrize("case", range(len(CASES)))
def test_max_pool_3d_takes_the_largest(tmp_path: Path, case: int) -> None:
    _, kernel, strides, _, ceil = CASES[case]
    x = numbers(2, 3, 5, 6, 7)
    attributes, pads = volume(case)
    want, _ = largest(x, kernel, strides, pads, ceil=ceil)
    check(tmp_path, "MaxPool3D", [x], want, attributes, tolerance=0)


@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize(("counts", "divisor"), [(True, 0), (False, 0), (True, 5)])
def test_average_pool_3d_divides_by_what_counts(
    tmp_path: Path, case: int, counts: bool, divisor: int
) -> None:
    _, kernel, strides, _, ceil = CASES[case]
    x = numbers(2, 3, 5, 6, 7)
    attributes, pads = volume(case)
    attributes |= {"count_include_pad": counts, "divisor_override": divisor}
    want = average(x, kernel, strides, pads, ceil, counts, divisor)
    check(tmp_path, "AvgPool3D", [x], want, attributes)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize(("ceil", "counts"), [(False, True), (True, True), (True, False)])
def test_average_pools_of_mint(
    tmp_path: Path, axes: int, batch: bool, ceil: bool, counts: bool
) -> None:
    x = numbers(*(2, 3)[not batch :], *(8, 6, 7)[:axes])
    kernel, strides, padding = (3, 2, 3)[:axes], (2, 2, 3)[:axes], (1, 0, 1)[:axes]
    want = average(x, kernel, strides, [(p, p) for p in padding], ceil, counts)
    operator = {1: "AvgPool1D", 2: "AvgPool2D", 3: "AvgPool3DExt"}[axes]
    rest: dict[str, Any] = {} if axes == 1 else {"divisor_override": None}
    check(tmp_path, operator, [x], want, kernel_size=kernel, stride=strides, padding=padding,
          ceil_mode=ceil, count_include_pad=counts, **rest)  # fmt: skip


def test_average_pool_of_mint_steps_by_its_kernel_unless_told(tmp_path: Path) -> None:
    x = numbers(1, 2, 6, 6)
    want = average(x, (3, 2), (3, 2), [(0, 0), (0, 0)], divisor=4)
    check(tmp_path, "AvgPool2D", [x], want, kernel_size=(3, 2), stride=None, padding=0,
          ceil_mode=False, count_include_pad=True, divisor_override=4)  # fmt: skip


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
@pytest.mark.parametrize("operator", ["MaxPoolWithArgmaxV2", "MaxPoolWithIndices"])
def test_places_of_the_largest_are_counted_in_their_image(
    tmp_path: Path, operator: str, dilation: tuple[int, int], ceil: bool
) -> None:
    x = numbers(2, 3, 8, 7)
    want = largest(x, (3, 2), (2, 2), [(1, 1), (0, 0)], dilation, ceil)
    front = (1, 1) if operator.endswith("V2") else ()
    settings: dict[str, Any] = {
        "kernel_size": (*front, 3, 2), "strides": (*front, 2, 2),
        "pads": (*front, 1, 0), "dilation": (*front, *dilation), "ceil_mode": ceil,
        "argmax_type": 35,
    }  # fmt: skip
    if operator.endswith("V2"):
        check(tmp_path, operator, [x], want, settings, tolerance=0)
    else:
        check(tmp_path, operator, [x], want, tolerance=0, **settings)


@pytest.mark.parametrize("mode", ["VALID", "SAME"])
def test_places_of_the_largest_are_counted_over_channels_by_the_older_form(
    tmp_path: Path, mode: str
) -> None:
    x = numbers(2, 3, 7, 8)
    pads = same((7, 8), (3, 3), (2, 2)) if mode == "SAME" else [(0, 0), (0, 0)]
    value, place = largest(x, (3, 3), (2, 2), pads)
    place += np.arange(3).reshape(3, 1, 1) * 56
    window = {"kernel_size": (1, 3, 3, 1), "strides": (1, 2, 2, 1), "pad_mode": mode}
    check(tmp_path, "MaxPoolWithArgmax", [x], [value, place.astype("i4")], window, tolerance=0)


def test_places_of_the_largest_in_volumes(tmp_path: Path) -> None:
    x = numbers(2, 2, 5, 6, 7)
    want = largest(x, (2, 3, 2), (2, 2, 2), [(1, 1), (1, 1), (0, 0)])
    attributes = {
        "ksize": (2, 3, 2), "strides": (2, 2, 2), "pads": (1, 1, 0), "dilation": (1, 1, 1),
        "format": "NCDHW",
    }  # fmt: skip
    check(tmp_path, "MaxPool3DWithArgmax", [x], want, attributes, tolerance=0)


def masked(item: int) -> Net:
    net = Net()
    stated: list[Any] = [("float32", (1, 2, 2, 2)), ("int8", (1, 2, 4, 32))]
    given = [net.input("x", "float32", (1, 2, 4, 4))]
    given += [net.constant(v) for v in ((2, 2), (2, 2), (0, 0), (1, 1), False, 35)]
    two = net.op("MaxPoolWithMask", given, stated)
    net.output(net.op("TupleGetItem", [two, net.constant(item)], stated[item]))
    return net


def test_mask_of_the_largest_is_refused_only_when_used(tmp_path: Path) -> None:
    x = numbers(1, 2, 4, 4)
    want, _ = largest(x, (2, 2), (2, 2), [(0, 0), (0, 0)])
    np.testing.assert_array_equal(run_net(masked(0), tmp_path, x)[0], want)
    with pytest.raises(LoadError, match="mask of the largest"):
        convert(masked(1).save(tmp_path / "mask.mindir"))


def parts(n: int, m: int) -> list[range]:
    return [range(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]


def adaptive(x: Array, size: Sequence[int]) -> tuple[Array, Array, Array]:
    """Return means, largest, and places of the largest of windows that cut the last axes."""
    lengths, front = x.shape[-len(size) :], x.shape[: -len(size)]
    cuts = [parts(n, m) for n, m in zip(lengths, size, strict=True)]
    means, most = np.zeros((*front, *size), "f4"), np.zeros((*front, *size), "f4")
    found = np.zeros((*front, *size), "i8")
    for at in np.ndindex(*size):
        ranges = [c[i] for c, i in zip(cuts, at, strict=True)]
        window = x[(..., *(slice(r.start, r.stop) for r in ranges))].reshape(*front, -1)
        means[(..., *at)], most[(..., *at)] = window.mean(-1), window.max(-1)
        within = np.unravel_index(window.argmax(-1), [len(r) for r in ranges])
        whole = [w + r.start for w, r in zip(within, ranges, strict=True)]
        found[(..., *at)] = np.ravel_multi_index(whole, lengths)
    return means, most, found


AVERAGES = [
    ("AdaptiveAvgPool1D", (2, 3, 9), (4,)), ("AdaptiveAvgPool1D", (3, 9), (3,)),
    ("AdaptiveAvgPool2D", (2, 3, 6, 7), (4, 3)), ("AdaptiveAvgPool2D", (2, 3, 6, 8), (3, 4)),
    ("AdaptiveAvgPool2D", (3, 6, 7), (9, 1)), ("AdaptiveAvgPool2DExt", (2, 3, 6, 7), (1, 1)),
    ("AdaptiveAvgPool3D", (2, 3, 5, 6, 7), (2, 3, 4)),
    ("AdaptiveAvgPool3DExt", (2, 3, 5, 6, 7), (5, 1, 3)),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "shape", "size"), AVERAGES)
def test_adaptive_average_pools_cut_axes_evenly(
    tmp_path: Path, operator: str, shape: tuple[int, ...], size: tuple[int, ...]
) -> None:
    x = numbers(*shape)
    means, _, _ = adaptive(x, size)
    if operator in ("AdaptiveAvgPool2D", "AdaptiveAvgPool3D"):
        check(tmp_path, operator, [x], means, {"output_size": size})
    else:
        check(tmp_path, operator, [x], means, output_size=size)


def test_adaptive_average_pool_keeps_a_length_of_minus_one(tmp_path: Path) -> None:
    x = numbers(2, 3, 6, 7)
    means, _, _ = adaptive(x, (6, 3))
    check(tmp_path, "AdaptiveAvgPool2D", [x], means, {"output_size": (-1, 3)})


def test_adaptive_average_pool_follows_images_whose_size_varies(tmp_path: Path) -> None:
    net = Net()
    given = [net.input("x", "float32", (-1, 2, -1, -1))]
    stated = ("float32", (-1, 2, 4, 3))
    net.output(net.op("AdaptiveAvgPool2D", given, stated, {"output_size": (4, 3)}))
    for shape in ((1, 2, 7, 8), (3, 2, 4, 5)):
        x = numbers(*shape)
        found = run_net(net, tmp_path, x)[0]
        np.testing.assert_allclose(found, adaptive(x, (4, 3))[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize(
    ("operator", "shape", "size"),
    [("AdaptiveMaxPool1D", (2, 3, 9), (4,)), ("AdaptiveMaxPool2D", (2, 3, 6, 7), (4, 3)),
     ("AdaptiveMaxPool2D", (2, 3, 6, 8), (2, 4)), ("AdaptiveMaxPool2D", (3, 5, 3), (7, 3))],
)  # fmt: skip
def test_adaptive_max_pools_tell_the_first_place(
    tmp_path: Path, operator: str, shape: tuple[int, ...], size: tuple[int, ...], equal: bool
) -> None:
    x = numbers(*shape)
    x = np.round(x) if equal else x
    _, most, found = adaptive(x, size)
    check(tmp_path, operator, [x], [most, found], tolerance=0, output_size=size)
