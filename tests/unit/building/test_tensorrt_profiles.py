"""What an engine is built for: rows from the batch sizes, other sizes from the servable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from serving.backends.tensorrt.options import Options
from serving.building.tensorrt_order import Order
from serving.building.tensorrt_profiles import profiles
from serving.errors import LoadError
from serving.tensor import FP32, BatchAxes, Dim, Signature, TensorSpec


def order(
    *shapes: Sequence[Dim] | None,
    axes: tuple[int | None, ...] | None = None,
    largest: int = 8,
    sizes: tuple[int, ...] | None = None,
    **options: str,
) -> Order:
    specs = tuple(
        TensorSpec("abc"[at], FP32, None if shape is None else tuple(shape))
        for at, shape in enumerate(shapes)
    )
    batch = BatchAxes.refused("not asked") if axes is None else BatchAxes(True, "", axes, ())
    told = {key.replace("profile_", "profile."): text for key, text in options.items()}
    return Order(
        Path("m"), Signature(specs, ()), batch, largest, sizes or (largest,), Options.parse(told)
    )


def test_rows_go_from_one_to_the_largest_batch() -> None:
    assert profiles(order(["batch", 16], axes=(0,), largest=32)) == [
        {"a": ((1, 16), (32, 16), (32, 16))}
    ]


def test_each_batch_size_has_a_profile_from_the_one_below_it() -> None:
    built = profiles(order(["batch", 4], axes=(0,), sizes=(1, 8, 32)))
    assert [profile["a"] for profile in built] == [
        ((1, 4), (1, 4), (1, 4)),
        ((2, 4), (8, 4), (8, 4)),
        ((9, 4), (32, 4), (32, 4)),
    ]


def test_rows_are_counted_along_the_axis_of_each_input() -> None:
    built = profiles(order(["n", 4], [2, "n", 3], [5], axes=(0, 1, None), largest=8))
    assert built == [{"a": ((1, 4), (8, 4), (8, 4)), "b": ((2, 1, 3), (2, 8, 3), (2, 8, 3))}]


def test_sizes_that_are_all_fixed_need_no_profile() -> None:
    assert profiles(order([8, 4], axes=(0,))) == []


def test_other_sizes_come_from_the_options() -> None:
    built = profiles(order(["n", "seq"], axes=(0,), profile_a="1x16,4x128,8x512"))
    assert built == [{"a": ((1, 16), (8, 128), (8, 512))}]


def test_sizes_of_a_model_without_a_batch_are_taken_as_told() -> None:
    built = profiles(order(["n", "seq"], profile_a="2x16,4x128,6x512"))
    assert built == [{"a": ((2, 16), (4, 128), (6, 512))}]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (order(["n", "seq"], axes=(0,)), r"'a' \[n,seq\] varies in 'seq'.*profile\.a.*1x1,64x64"),
        (order(["", 3]), r"varies in axis 0"),
        (order(None), r"'a' has no rank"),
        (order(["n", 4], axes=(0,), profile_x="1x4,2x4,8x4"), r"'profile\.x' names no input"),
        (order(["n", 4], axes=(0,), profile_a="1,2,8"), r"rank 1, the input is FP32\[n,4\]"),
        (order(["n", 4], axes=(0,), profile_a="1x4,2x4,8x5"), r"size 1 go from 4 to 5, .* to 4"),
        (order(["n", "s"], axes=(0,), profile_a="1x4,2x4,4x5"), r"holds 1 to 4 rows"),
        (order(["n", "s"], axes=(0,), profile_a="2x4,2x4,8x5"), r"holds 2 to 8 rows"),
    ],
)
def test_sizes_that_nobody_told_or_that_do_not_fit_are_named(made: Order, words: str) -> None:
    with pytest.raises(LoadError, match=words):
        profiles(made)
