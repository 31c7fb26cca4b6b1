"""Which sizes and rows an OM takes; no device, nor a double of one, is needed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from serving.backends.ascend.gears import Kind, Shape, Sizes, named, varied
from serving.backends.ascend.options import OPTIONS
from serving.backends.base import BackendError
from serving.tensor import FP32, TensorSpec

X, Y = TensorSpec("x", FP32, None), TensorSpec("y", FP32, None)


def test_gears_of_rows_replace_what_varies_in_every_input() -> None:
    sizes = Sizes(Kind.ROWS, ((-1, 3), (7,), (2, -1)), ((1,), (4,)))
    assert sizes.at((4,)) == ((4, 3), (7,), (2, 4))
    assert sizes.gear_of((X, Y, X), [(1, 3), (7,), (2, 1)]) == (1,)
    assert sizes.rows() == (1, 4)
    with pytest.raises(BackendError, match=r"other sizes than x \[4,3\], y \[8\]"):
        sizes.gear_of((X, Y, X), [(4, 3), (8,), (2, 4)])
    with pytest.raises(BackendError):
        sizes.gear_of((X, Y, X), [(4, 3), (7,), (2, 1)])  # inputs that disagree


def test_gears_of_images_are_heights_and_widths() -> None:
    sizes = Sizes(Kind.IMAGE, ((1, -1, -1, 3),), ((4, 6), (8, 2)))
    assert sizes.at((8, 2)) == ((1, 8, 2, 3),)
    assert sizes.gear_of((X,), [(1, 4, 6, 3)]) == (4, 6)
    assert sizes.rows() is None
    with pytest.raises(BackendError):
        sizes.gear_of((X,), [(1, 6, 4, 3)])


@pytest.mark.parametrize(
    ("inputs", "gears", "rows"),
    [
        # One size of each input varies, and they are equal: rows, on whichever axis.
        (((-1, 8), (2, -1)), ((1, 8, 2, 1), (4, 8, 2, 4)), (1, 4)),
        # Lengths vary too; every length has rows 1 and 2, only one of them 4.
        (((-1, -1),), ((1, 8), (2, 8), (4, 8), (1, 16), (2, 16)), (1, 2)),
        # No number of rows goes with every length.
        (((-1, -1),), ((1, 8), (2, 16)), None),
        # Two sizes that vary and differ are no rows.
        (((-1, 8), (-1, 8)), ((1, 8, 2, 8), (2, 8, 4, 8)), None),
        # A length alone varies: what varies in each input is one size, and it counts as rows would.
        (((3, -1),), ((3, 8), (3, 16)), (8, 16)),
        # The first size of an input is fixed while others vary in several places.
        (((3, -1, -1),), ((3, 8, 1), (3, 16, 1)), None),
    ],
)
def test_gears_of_all_sizes_are_rows_where_they_can_be(
    inputs: tuple[Shape, ...], gears: tuple[Shape, ...], rows: Shape | None
) -> None:
    assert Sizes(Kind.DIMS, inputs, gears).rows() == rows


def test_fixed_and_free_sizes_have_no_gear_and_are_checked() -> None:
    fixed = Sizes(Kind.FIXED, ((2, 3),))
    assert fixed.gear_of((X,), [(2, 3)]) == ()
    assert fixed.rows() is None
    with pytest.raises(BackendError, match=r"input 'x' has shape \[3,3\], the model takes \[2,3\]"):
        fixed.gear_of((X,), [(3, 3)])
    free = Sizes(Kind.FREE, ((-1, 3),))
    assert free.gear_of((X,), [(99, 3)]) == ()
    with pytest.raises(BackendError):
        free.gear_of((X,), [(99, 4)])
    with pytest.raises(BackendError):
        free.gear_of((X,), [(99,)])


def test_sizes_that_vary_have_names() -> None:
    assert named(Kind.ROWS, (-1, 3)) == ("batch", 3)
    assert named(Kind.IMAGE, (1, -1, -1, 3)) == (1, "height", "width", 3)
    assert named(Kind.FREE, (-1, -1)) == ("", "")
    assert varied(Kind.ROWS, ((1,), (4,)), ((1, 3, 8), (4, 3, 32))) == ("batch", 3, "")
    assert varied(Kind.ROWS, ((1,), (4,)), ((5,), (5,))) == (5,)
    assert varied(Kind.FIXED, (), ((2, 3),)) == (2, 3)


def test_options_are_documented_one_and_all() -> None:
    text = (Path(__file__).parents[3] / "docs" / "ascend.md").read_text()
    table = text.split("| option | meaning |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(OPTIONS)
