"""Which callers may bring their rows together, and what each of them is answered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from serving.frontends.rows import rows_of, stacks
from serving.request import Description, InferResponse
from serving.tensor import BYTES, FP32, BatchAxes, Signature, Tensor, TensorSpec

X = (TensorSpec("x", FP32, ("n", 2)),)
AXES = BatchAxes(True, "test", (0,), (0,))
KNOWN = Description("m", 1, Signature(X, X), AXES, 8, "stub")
FROZEN = (TensorSpec("x", FP32, (4, 2)),)


@pytest.mark.parametrize(("unit", "may"), [(0, False), (1, True), (2, True), (4, True), (5, False)])
def test_callers_two_of_whom_a_run_takes_may_come_together(unit: int, may: bool) -> None:
    assert stacks(KNOWN, unit) is may


@pytest.mark.parametrize(
    "other",
    [
        replace(KNOWN, method="predict"),
        replace(KNOWN, signature=Signature(FROZEN, X)),
        replace(KNOWN, signature=Signature(X, (TensorSpec("y", FP32, ("n", 1025)),))),
        replace(KNOWN, signature=Signature(X, (TensorSpec("y", FP32, ("n", "len")),))),
        replace(KNOWN, signature=Signature(X, (TensorSpec("y", FP32, None),))),
        replace(KNOWN, signature=Signature(X, (TensorSpec("y", BYTES, ("n",)),))),
    ],
    ids=["a method", "a frozen size", "long answers", "unknown ones", "any ones", "strings"],
)
def test_only_callers_of_one_row_come_together_for(other: Description) -> None:
    assert stacks(other)
    assert not stacks(other, 2)


@pytest.mark.parametrize(
    "axes",
    [
        BatchAxes.refused("a test"),
        BatchAxes(True, "test", (1,), (0,)),
        BatchAxes(True, "test", (0,), (1,)),
        BatchAxes(True, "test", (None,), (0,)),
    ],
)
def test_rows_that_do_not_stand_behind_one_another_come_alone(axes: BatchAxes) -> None:
    assert not stacks(replace(KNOWN, batch=axes))
    assert not stacks(replace(KNOWN, batch=axes), 2)


def test_each_caller_has_the_rows_that_are_its_own() -> None:
    array = np.arange(12, dtype=np.float32).reshape(6, 2)
    words = [b"%d" % i for i in range(12)]
    both = (Tensor("y", FP32, (6, 2), array), Tensor("s", BYTES, (6, 2), items=words))
    whole = InferResponse("m", 1, "", both)
    for caller in range(3):
        y, s = rows_of(whole, caller, 2).outputs
        assert y.array is not None
        assert (y.shape, s.shape) == ((2, 2), (2, 2))
        assert y.array.tolist() == array[2 * caller : 2 * caller + 2].tolist()
        assert s.items == words[4 * caller : 4 * caller + 4]
