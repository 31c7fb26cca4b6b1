"""Which profile runs which shapes: chosen by what it holds and what it was made for."""

from __future__ import annotations

import pytest

from serving.backends.base import BackendError
from serving.backends.tensorrt import profiles
from serving.backends.tensorrt.options import Range
from serving.backends.tensorrt.ports import Port, Ports
from serving.tensor import FP32, Signature


def ports(*ranges: tuple[Range, ...]) -> Ports:
    """Return inputs ``a``, ``b``… each with its ranges for each profile."""
    inputs = tuple(
        Port("ab"[at], FP32, (-1,) * len(own[0][0]), True, False, own)
        for at, own in enumerate(ranges)
    )
    return Ports(inputs, (), Signature((), ()), len(ranges[0]))


def rows(low: int, usual: int, high: int, width: int = 4) -> Range:
    return (low, width), (usual, width), (high, width)


def test_profile_is_the_one_whose_usual_shape_is_nearest() -> None:
    overlapping = ports((rows(1, 8, 32), rows(1, 1, 4), rows(16, 32, 32)))
    assert profiles.choose(overlapping, [(1, 4)]) == 1
    assert profiles.choose(overlapping, [(5, 4)]) == 0
    assert profiles.choose(overlapping, [(31, 4)]) == 2


def test_profile_must_hold_all_inputs_together() -> None:
    two = ports((rows(1, 2, 4), rows(5, 6, 8)), (rows(1, 2, 4, 9), rows(5, 6, 8, 9)))
    assert profiles.choose(two, [(6, 4), (6, 9)]) == 1
    with pytest.raises(BackendError, match=r"no profile .*'a' \[6,4\], 'b' \[2,9\]"):
        profiles.choose(two, [(6, 4), (2, 9)])


@pytest.mark.parametrize("shape", [(0, 4), (33, 4), (8, 5), (8,), (8, 4, 1)])
def test_profile_that_holds_no_such_shape_is_told_with_its_range(shape: tuple[int, ...]) -> None:
    with pytest.raises(BackendError, match=r"'a' has the shape .* built for \[1,4\] to \[32,4\]"):
        profiles.choose(ports((rows(1, 8, 32),)), [shape])


def test_rows_are_those_that_some_profile_takes() -> None:
    assert profiles.rows(ports((rows(2, 2, 3), rows(6, 6, 7)))) == (2, 3, 6, 7)


def test_rows_of_several_inputs_are_those_that_all_take() -> None:
    assert profiles.rows(ports((rows(1, 2, 4),), (rows(2, 3, 8),))) == (2, 3, 4)


def test_rows_are_not_bounded_where_the_first_axis_is_fixed() -> None:
    fixed = Port("a", FP32, (8, -1), True, False, (((8, 1), (8, 4), (8, 9)),))
    assert profiles.rows(Ports((fixed,), (), Signature((), ()), 1)) is None


def test_largest_shape_is_that_of_the_widest_profile() -> None:
    port = ports((rows(1, 2, 4), rows(1, 8, 32), rows(1, 1, 1))).inputs[0]
    assert profiles.largest(port) == (32, 4)
