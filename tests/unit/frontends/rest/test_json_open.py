"""Which dtype a JSON value has by itself, for inputs of any type."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidRequest
from serving.frontends.rest import json_document, json_open
from serving.tensor import BOOL, BYTES, FP32, FP64, INT32, INT64, TEXT, UINT64, DType

B64 = {"b64": "AP8="}


def read(value: Any) -> Any:
    document = json_document.parse(json.dumps(value).encode())
    found = json_open.read(document, document.root, "x")
    document.settle()
    return found


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1, INT32),
        (2**31, INT64),
        ([1, -(2**31) - 1], INT64),
        ([0, 2**63], UINT64),
        (1.0, FP32),
        ([1, 2.5], FP32),
        ([1, 1e39], FP64),
        ([0.5, 2**64 - 1], FP32),
        ([1.5, "NaN"], FP32),
        (True, BOOL),
        ([[True], [False]], BOOL),
        ("", TEXT),
        ([["a"], ["b"]], TEXT),
        (B64, BYTES),
        (["a", B64], BYTES),
    ],
)
def test_a_value_has_the_dtype_that_it_says(value: Any, dtype: DType) -> None:
    found = read(value)
    assert found.dtype is dtype
    assert found.shape == np.shape(json.loads(json.dumps(value).replace(json.dumps(B64), '"b"')))


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5)
    | st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5)
)
def test_integers_of_64_bits_are_never_changed(numbers: list[int]) -> None:
    found = read(numbers)
    assert found.array is not None
    assert found.array.tolist() == numbers
    low, high = min(numbers), max(numbers)
    assert (found.dtype is INT32) == (low >= -(2**31) and high < 2**31)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ([], "wrong_type"),
        ([[], []], "wrong_type"),
        (None, "wrong_type"),
        ([1, [2]], "ragged"),
        ([[1], 2], "ragged"),
        ([1, True], "bad_element"),
        ([1, "a"], "bad_element"),
        (["a", 1], "bad_element"),
        ([True, 1], "bad_element"),
        ([-1, 2**63], "out_of_range"),
        ([2**63, "Infinity"], "bad_element"),
    ],
)
def test_what_is_of_no_one_dtype_is_refused(value: Any, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(value)
    assert refused.value.code == code
    assert refused.value.where.startswith("x")
