"""Classes of an output: its largest elements, each with its place and its name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.errors import InvalidRequest
from serving.frontends.classification import Classes, count_of
from serving.request import Description, InferResponse
from serving.tensor import (
    ANY,
    BF16,
    BOOL,
    BY_NAME,
    BYTES,
    FP32,
    BatchAxes,
    Signature,
    Tensor,
    TensorSpec,
)

NAMES = ("cat", "dog", "a: b", "ö")
ROWS = BatchAxes(True, "told", (0,), (0,))


def description(batch: BatchAxes = ROWS, labels: tuple[str, ...] = ()) -> Description:
    spec = TensorSpec("y", ANY, None)
    named = {"y": labels} if labels else {}
    return Description("m", 1, Signature((), (spec,)), batch, 8, "test", class_labels=named)


def classes(tensor: Tensor, count: int, **known: Any) -> Tensor:
    response = InferResponse("m", 1, "id", (tensor,))
    (found,) = Classes({"y": count}, description(**known)).of(response).outputs
    assert found.dtype is BYTES
    assert found.array is None
    return found


def of(values: Any, dtype: type = np.float32) -> Tensor:
    return Tensor.of("y", np.array(values, dtype))


def texts(found: Tensor) -> list[str]:
    return [item.decode() for item in found.items or ()]


def test_each_row_has_its_largest_first() -> None:
    found = classes(of([[0.1, 0.7, 0.2], [3, 2, 1]]), 2, labels=NAMES)
    assert found.shape == (2, 2)
    assert texts(found) == ["0.700000:1:dog", "0.200000:2:a: b", "3.000000:0:cat", "2.000000:1:dog"]


def test_output_without_rows_is_one() -> None:
    found = classes(of([[0.5, 0.25], [1.0, -1.0]]), 3, batch=BatchAxes.refused("told"))
    assert found.shape == (3,)
    assert texts(found) == ["1.000000:2", "0.500000:0", "0.250000:1"]


def test_rows_on_another_axis_are_rows() -> None:
    axes = BatchAxes(True, "told", (1,), (1,))
    assert texts(classes(of([[1, 2], [3, 0]]), 1, batch=axes)) == ["3.000000:1", "2.000000:0"]


def test_more_classes_than_there_are_are_all_and_those_without_a_name_have_none() -> None:
    found = classes(of([[5, 4, 6]]), 9, labels=NAMES[:1])
    assert found.shape == (1, 3)
    assert texts(found) == ["6.000000:2", "5.000000:0:cat", "4.000000:1"]


@pytest.mark.parametrize("name", ["INT8", "UINT8", "INT64", "UINT64"])
def test_whole_numbers_are_ordered_to_their_ends_and_written_whole(name: str) -> None:
    numpy = BY_NAME[name].numpy
    assert numpy is not None
    ends = np.iinfo(numpy)
    found = classes(of([[0, ends.min, ends.max, 1]], numpy), 4)
    order = [f"{ends.max}:2", "1:3", "0:0", f"{ends.min}:1"]
    assert texts(found) == order


def test_bool_and_bf16_have_an_order() -> None:
    assert texts(classes(Tensor("y", BOOL, (1, 2), np.array([[False, True]])), 2)) == ["1:1", "0:0"]
    patterns = (np.array([[1.0, -2.0, 3.0]], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    found = classes(Tensor("y", BF16, (1, 3), patterns), 3)
    assert texts(found) == ["3.000000:2", "1.000000:0", "-2.000000:1"]


@given(
    arrays.arrays(
        st.sampled_from([np.float32, np.float16, np.int16]),
        arrays.array_shapes(min_dims=1, max_side=5),
    ),
    st.integers(1, 7),
)
def test_classes_are_those_of_a_plain_sort(array: Any, count: int) -> None:
    found = classes(Tensor.of("y", array), count)
    rows = [row.ravel().tolist() for row in array]
    wanted = []
    for row in rows:
        ranked = sorted(range(len(row)), key=lambda i: (math.isnan(row[i]), -row[i] or 0.0, i))
        wanted.append([(i, row[i]) for i in ranked[:count]])
    assert found.shape == (len(rows), min(count, len(rows[0])))
    told = iter(texts(found))
    for row in wanted:
        for index, value in row:
            text, _, place = next(told).partition(":")
            assert int(place) == index
            assert math.isnan(value) == math.isnan(float(text))
            assert math.isnan(value) or float(text) == pytest.approx(value, abs=1e-6, rel=1e-6)


def test_no_rows_have_no_classes() -> None:
    found = classes(of(np.zeros((0, 4))), 2)
    assert (found.shape[0], texts(found)) == (0, [])


@pytest.mark.parametrize("value", [-1, 2**31, 1.5, True, "3"])
def test_what_is_no_number_of_classes_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        count_of({"classification": value}, TensorSpec("y", FP32, None), "outputs[0].parameters")
    assert refused.value.where == "outputs[0].parameters.classification"


def test_strings_have_no_classes() -> None:
    with pytest.raises(InvalidRequest):
        count_of({"classification": 1}, TensorSpec("y", BYTES, None), "here")
    with pytest.raises(InvalidRequest):
        classes(Tensor("y", BYTES, (1,), items=[b"a"]), 1)


def test_classes_are_not_written_to_shared_memory() -> None:
    given: dict[str, Any] = {"classification": 1, "shared_memory_region": "r"}
    with pytest.raises(InvalidRequest) as refused:
        count_of(given, TensorSpec("y", FP32, None), "here")
    assert "shared memory" in str(refused.value)


def test_no_classes_wanted_is_the_output_itself() -> None:
    assert count_of({"classification": 0}, TensorSpec("y", BYTES, None), "here") == 0
    assert count_of({}, TensorSpec("y", FP32, None), "here") == 0
