"""JSON values as tensors, and back."""

from __future__ import annotations

import json
import math
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import InvalidRequest
from serving.frontends.rest import json_answer, json_document, json_tensor
from serving.tensor import (
    BF16,
    BOOL,
    BYTES,
    DTYPES,
    FP16,
    FP32,
    FP64,
    INT8,
    INT32,
    INT64,
    UINT8,
    UINT64,
    DType,
    Tensor,
    float32_to_bf16,
)

NUMBERS = [d for d in DTYPES if d is not BYTES]


def read(text: str | bytes, dtype: DType) -> json_tensor.Value:
    body = text.encode() if isinstance(text, str) else text
    document = json_document.parse(body)
    value = json_tensor.read(document, document.root, dtype, "x")
    document.settle()
    return value


def refusal(text: str | bytes, dtype: DType) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(text, dtype)
    return caught.value


@pytest.mark.parametrize("dtype", NUMBERS, ids=repr)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_numbers_survive_json_in_every_dtype_and_shape(dtype: DType, data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    array = data.draw(hnp.arrays(dtype.numpy, shape))
    if dtype is BF16:
        array = np.where((array & 0x7F80) == 0x7F80, np.uint16(0x3F80), array).astype("<u2")
    text = json_answer.dumps(
        json_answer.plain(json_answer.numbers(Tensor("x", dtype, shape, array)))
    )
    value = read(text, dtype)
    assert value.array is not None
    if 0 in shape:
        # JSON does not say what is below an empty list.
        assert value.shape == shape[: shape.index(0) + 1]
    else:
        assert value.shape == shape
        assert value.array.dtype == dtype.numpy
        np.testing.assert_array_equal(value.array, array)


@pytest.mark.parametrize(
    ("dtype", "text", "expected"),
    [
        (FP32, "[[1, 2.5], [-0.0, 1e-3]]", np.array([[1, 2.5], [-0.0, 0.001]], "<f4")),
        (INT64, "[9007199254740993, -9223372036854775808]", np.array([2**53 + 1, -(2**63)])),
        (UINT64, "[18446744073709551615, 0]", np.array([2**64 - 1, 0], "<u8")),
        (INT8, "[-128, 127]", np.array([-128, 127], "<i1")),
        (BOOL, "[[true], [false]]", np.array([[True], [False]])),
        (FP16, "[65504, 6e-8]", np.array([65504, 6e-8], "<f2")),
        (BF16, "[1, -2.5]", np.array([0x3F80, 0xC020], "<u2")),
        (FP32, "7", np.array(7, "<f4")),
        (FP64, "[1e20, 100000000000000000000]", np.array([1e20, 1e20])),
    ],
)
def test_json_values_mean_these_elements(dtype: DType, text: str, expected: Any) -> None:
    value = read(text, dtype)
    assert value.array is not None
    assert value.shape == expected.shape
    assert value.array.dtype == dtype.numpy
    assert value.array.tobytes() == expected.astype(dtype.numpy).tobytes()


@pytest.mark.parametrize("dtype", [FP16, FP32, FP64, BF16], ids=repr)
def test_nan_and_infinities_are_strings_in_both_directions(dtype: DType) -> None:
    text = b'["NaN","Infinity","-Infinity",1.5]'
    value = read(text, dtype)
    assert value.array is not None
    wide = value.array if dtype is not BF16 else (value.array.astype("u4") << 16).view("f4")
    assert math.isnan(wide[0])
    assert wide[1:].tolist() == [math.inf, -math.inf, 1.5]
    numbers = json_answer.numbers(Tensor("x", dtype, value.shape, value.array))
    assert json_answer.dumps(json_answer.plain(numbers)) == text


def test_float32_is_written_with_its_own_shortest_digits() -> None:
    tensor = Tensor.of("x", np.array([0.1, 1 / 3, np.nan], np.float32))
    assert json_answer.dumps(json_answer.plain(json_answer.numbers(tensor))) == (
        b'[0.1,0.33333334,"NaN"]'
    )


@pytest.mark.parametrize(
    ("dtype", "text", "where", "given"),
    [
        (INT32, "[[1, 2], [3, 2.5]]", "x[1][1]", "the number 2.5"),
        (INT32, "[1.0]", "x[0]", "the number 1.0"),
        (INT64, "[1, 9223372036854775808]", "x[1]", "the number 9223372036854775808"),
        (UINT64, "[-1]", "x[0]", "the number -1"),
        (UINT8, "[[0], [256]]", "x[1][0]", "256"),
        (INT8, "-129", "x", "the number -129"),
        (FP32, "-1e39", "x", "-1e+39"),
        (INT8, "[-129]", "x[0]", "-129"),
        (UINT64, "[18446744073709551616]", "x[0]", "the number 1.8446744073709552e+19"),
        (FP32, "[1, true]", "x[1]", "true"),
        (FP32, "[null]", "x[0]", "null"),
        (FP32, '["nan"]', "x[0]", "the string 'nan'"),
        (FP32, "[1e39]", "x[0]", "1e+39"),
        (FP16, "[[1], [65520]]", "x[1][0]", "65520.0"),
        (BF16, "[3.4e38]", "x[0]", "3.4e+38"),
        (BOOL, "[1]", "x[0]", "the number 1"),
        (BYTES, "[1]", "x[0]", "the number 1"),
        (BYTES, '[{"b64": "a"}]', "x[0]", "other text"),
        (BYTES, '[{"b64": "YQ==", "x": 1}]', "x[0]", "an object"),
        (INT32, '["1"]', "x[0]", "the string '1'"),
    ],
)
def test_an_element_that_does_not_fit_is_named(
    dtype: DType, text: str, where: str, given: str
) -> None:
    error = refusal(text, dtype)
    assert (error.where, error.given) == (where, given)
    assert error.expected


@pytest.mark.parametrize("dtype", [FP32, INT64, UINT8, BOOL, BYTES], ids=repr)
@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[[1, 2], [3]]", "x[1]"),
        ("[[1, 2], 3]", "x[1]"),
        ("[1, [2]]", "x[1]"),
        ("[1, [], [2, 3]]", "x[1]"),
        ("[[1, 2, 3], [4, [], [5, 6]]]", "x[1][1]"),
        ("[[[1], [2]], [[3], 4]]", "x[1][1]"),
        ("[[], [1]]", "x[1]"),
    ],
)
def test_ragged_lists_are_refused_where_they_begin(dtype: DType, text: str, where: str) -> None:
    element = {"BOOL": "true", "BYTES": '"a"'}.get(dtype.name)
    if element:
        text = "".join(element if c.isdigit() else c for c in text)
    error = refusal(text, dtype)
    assert (error.code, error.where) == ("ragged", where)


@pytest.mark.parametrize("rows", [400, 40_000], ids=["of kilobytes", "of megabytes"])
@pytest.mark.parametrize("place", [0, 1, -1])
def test_no_list_hides_among_many_numbers(rows: int, place: int) -> None:
    lists: list[Any] = [[0.5, 1.25, -2.0, 3.0, 4.0, 5.5, 6.0, 7.75] for _ in range(rows)]
    value = read(json.dumps(lists), FP32)
    np.testing.assert_array_equal(value.array, np.array(lists, np.float32))
    lists[place] = [0.5, [], 1.25, [-2.0, 3.0], 4.0, 5.5, 6.0, 7.75]
    assert refusal(json.dumps(lists), FP32).where == f"x[{place % rows}][1]"


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.integers(0, 9), lambda children: st.lists(children, max_size=3), max_leaves=12
    ).filter(lambda tree: isinstance(tree, list))
)
def test_a_tree_is_read_exactly_when_numpy_finds_it_even(tree: Any) -> None:
    try:
        expected = np.array(tree, dtype=np.float32)
    except ValueError:
        assert refusal(json.dumps(tree), FP32).code in ("ragged", "bad_element")
        return
    value = read(json.dumps(tree), FP32)
    assert value.shape == expected.shape
    np.testing.assert_array_equal(value.array, expected)


def test_a_list_among_numbers_is_found_although_a_string_hides_the_count() -> None:
    body = b'{"x": [1, [], [2, 3]], "note": "]]]["}'
    document = json_document.parse(body)
    found = json_document.fields(document.root, "")
    json_tensor.read(document, found["x"], FP32, "x")
    with pytest.raises(InvalidRequest) as caught:
        document.settle()
    assert caught.value.where == "x[1]"


def test_nesting_beyond_the_limit_is_refused_without_recursion() -> None:
    assert refusal("[" * 40 + "1" + "]" * 40, FP32).code == "too_deep"
    assert refusal("[" * 1000 + "]" * 1000, FP32).code == "too_deep"
    assert refusal("[" * 100_000 + "]" * 100_000, FP32).code == "bad_json"


@given(st.lists(st.binary(max_size=8), max_size=6))
def test_any_bytes_survive_as_json_strings(items: list[bytes]) -> None:
    text = json_answer.dumps([json_answer.text(item) for item in items])
    value = read(text, BYTES)
    assert (value.shape, value.items) == ((len(items),), items)


@pytest.mark.parametrize(
    ("body", "fix"),
    [
        (b"", ""),
        (b"{", ""),
        (b'{"a": 1,}', ""),
        (b"[1] 2", ""),
        (b'"\xff"', ""),
        (b'["\\ud800"]', ""),
        (b"[1e999]", ""),
        (b"[NaN]", "NaN"),
        (b"[1, -Infinity]", "NaN"),
        ('["é", NaN]'.encode(), "NaN"),
    ],
)
def test_what_is_not_json_is_refused_with_its_place(body: bytes, fix: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        json_document.parse(body)
    assert caught.value.code == "bad_json"
    assert "line" in caught.value.given or not body
    assert fix in caught.value.fix
    assert bool(fix) == bool(caught.value.fix)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"a": 1, "a": 2}', "bad_field"),
        (b'{"a\\u0000b": 1}', "bad_field"),
        (json.dumps({str(i): i for i in range(2000)}).encode(), "too_many_fields"),
        (b"[1]", "wrong_type"),
    ],
)
def test_fields_that_cannot_be_told_apart_are_refused(body: bytes, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        json_document.fields(json_document.parse(body).root, "")
    assert caught.value.code == code


def test_a_large_image_reads_as_numpy_reads_it() -> None:
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    value = read(json_answer.dumps(image), FP32)
    assert value.shape == image.shape
    np.testing.assert_array_equal(value.array, image)


def test_bfloat16_reads_as_the_nearest_pattern() -> None:
    numbers = np.array([0.1, 3.14159, 1e-40, 65504.0], np.float32)
    value = read(json.dumps([float(n) for n in numbers]), BF16)
    np.testing.assert_array_equal(value.array, float32_to_bf16(numbers))
