"""Short lists of numbers: packed exactly as the general reader does, or left to it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidRequest
from serving.frontends.rest import json_document, json_tensor, plain_numbers
from serving.tensor import BF16, BOOL, BYTES, DTYPES, FP16, FP32, INT8, UINT64, Array, DType

PACKED = [d for d in DTYPES if d not in (BOOL, BYTES, BF16, FP16)]
_NUMBERS = (
    st.integers(-(2**63), 2**64 - 1)
    | st.integers(-300, 300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([3.4028235e38, 3.4028235677973366e38, 3.4028236e38, -0.0, 1e-46, 16777217])
)


def general(numbers: list[Any], dtype: DType) -> Array | None:
    """Return what the general reader makes of the numbers, None where it refuses them."""
    document = json_document.parse(json.dumps(numbers).encode())
    try:
        value = json_tensor.read(document, document.root, dtype, "x")
        document.settle()
    except InvalidRequest:
        return None
    return value.array


@given(st.lists(_NUMBERS, min_size=1, max_size=5), st.sampled_from(PACKED))
def test_numbers_are_packed_as_the_general_reader_does(numbers: list[Any], dtype: DType) -> None:
    mine, other = plain_numbers.pack(numbers, dtype), general(numbers, dtype)
    if other is None:
        assert mine is None
    elif mine is not None:
        assert mine.dtype == other.dtype
        assert mine.tobytes() == other.tobytes()


@pytest.mark.parametrize("dtype", PACKED, ids=repr)
def test_numbers_within_bounds_are_not_left_to_the_general_reader(dtype: DType) -> None:
    assert plain_numbers.pack([1, 2, 3], dtype) is not None


@pytest.mark.parametrize(
    ("numbers", "dtype"),
    [
        ([1e39], FP32),
        ([1.0], INT8),
        ([128], INT8),
        ([-1], UINT64),
        ([2**64], UINT64),
        ([None], FP32),
        (["1"], FP32),
        ([[1]], FP32),
        ([{}], INT8),
        ([10**400], FP32),
        ([], FP32),
        ([1], BF16),
        ([1], BYTES),
    ],
)
def test_numbers_that_do_not_fit_are_left_alone(numbers: list[Any], dtype: DType) -> None:
    assert plain_numbers.pack(numbers, dtype) is None


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_nested_lists_are_flattened_in_c_order(shape: list[int]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    found = plain_numbers.flatten(array.tolist(), tuple(shape[1:]))
    assert found == (tuple(shape), array.reshape(-1).tolist())
    free = plain_numbers.flatten(array.tolist(), ("",) * (len(shape) - 1))
    assert free == found


@pytest.mark.parametrize(
    ("values", "dims"),
    [
        ([[1, 2], [3]], (2,)),
        ([[1], [2, 3]], ("k",)),
        ([[1, 2], 3], (2,)),
        ([1, 2], (2,)),
        ([[1, 2], {"a": 1, "b": 2}], (2,)),
        ([[1, 2], "ab"], (2,)),
        ([[]], ("k",)),
        ([[]], (0,)),
        ([], (2,)),
        ([[1, 2, 3]], (2,)),
    ],
)
def test_lists_of_other_sizes_are_left_alone(values: list[Any], dims: tuple[Any, ...]) -> None:
    assert plain_numbers.flatten(values, dims) is None


_TEXTS = st.lists(st.sampled_from(["1", "2.5", "-3", "1e3", "true", '"4"', "[5]", "], [", ""])).map(
    lambda words: ",".join(words).encode()
)


@given(st.lists(_TEXTS | st.sampled_from([b"1,2", b"1,2,3", b"1", b""]), min_size=1, max_size=4))
def test_rows_are_packed_together_as_each_by_itself(texts: list[bytes]) -> None:
    packer = plain_numbers.packer((1, 2), FP32)
    assert packer is not None
    single = [_alone(packer, text) for text in texts]
    together = packer.rows(texts)
    if any(row is None for row in single):
        assert together is None
    else:
        assert together is not None
        np.testing.assert_array_equal(
            together, np.concatenate([r for r in single if r is not None])
        )


_LONG = st.lists(_NUMBERS | st.integers(-100, 100), min_size=120, max_size=120)
_ODD = st.sampled_from(["true", "null", '"1"', "[1]", "[]", "", "{}", "01", "1e999", "1 1", "-"])


@given(st.lists(_LONG, min_size=1, max_size=3), st.none() | _ODD, st.sampled_from(PACKED))
def test_long_rows_are_read_as_the_general_reader_does(
    rows: list[list[Any]], odd: str | None, dtype: DType
) -> None:
    packer = plain_numbers.packer((1, 120), dtype)
    assert packer is not None
    texts = [json.dumps(row)[1:-1].encode() for row in rows]
    if odd is not None:
        rest = texts[-1].partition(b", ")[2]
        texts[-1] = odd.encode() + b", " + rest
    found = packer.rows(texts)
    expected = [None if odd is not None else general(row, dtype) for row in rows]
    if any(row is None for row in expected):
        assert found is None
    elif found is not None:
        assert found.dtype == dtype.numpy
        assert found.shape == (len(rows), 120)
        assert found.tobytes() == b"".join([r.tobytes() for r in expected if r is not None])


def test_long_rows_within_bounds_are_not_left_to_the_general_reader() -> None:
    for dtype in PACKED:
        packer = plain_numbers.packer((1, 120), dtype)
        assert packer is not None
        found = packer.rows([b",".join([b"%d" % i for i in range(120)])] * 2)
        assert found is not None
        assert found.tolist() == [list(range(120))] * 2


@pytest.mark.parametrize("large", ["1e39", "-1e200", "1e308"])
def test_long_row_with_a_number_beyond_the_type_is_left_alone(large: str) -> None:
    packer = plain_numbers.packer((1, 120), FP32)
    assert packer is not None
    text = b",".join([b"1"] * 119)
    assert packer.rows([text + b"," + large.encode()]) is None
    assert packer.rows([text + b",1e37"]) is not None


_WORDS = st.lists(
    st.sampled_from(["1", "2.5", "[1,2]", "[3,4]", "[", "]", ",", "[]", "[[1,2],[3,4]]", '"', "t"]),
    max_size=6,
)  # fmt: skip


@given(
    st.lists(
        _WORDS.map("".join) | st.sampled_from(["[1,2],[3,4]", "[5,6], [7,8]"]),
        min_size=1,
        max_size=3,
    )
)
def test_rows_of_lists_in_lists_are_those_that_have_the_shape(texts: list[str]) -> None:
    packer = plain_numbers.packer((1, 2, 2), FP32, nested=True)
    assert packer is not None
    single = [_square(text) for text in texts]
    together = packer.rows([text.encode() for text in texts])
    if any(row is None for row in single):
        assert together is None
    else:
        assert together is not None
        assert together.tolist() == single


def _square(text: str) -> Any:
    """Return the two lists of two numbers that a text is within brackets, None for another."""
    try:
        found = json.loads(f"[{text}]")
    except json.JSONDecodeError:
        return None
    if not all(isinstance(row, list) and len(row) == 2 for row in found) or len(found) != 2:
        return None
    fits = all(type(number) in (int, float) for row in found for number in row)
    return found if fits else None


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 1), (1, 1, 3), (1, 2, 3, 4)])
def test_lists_in_lists_of_any_sizes_are_read(shape: tuple[int, ...]) -> None:
    packer = plain_numbers.packer(shape, FP32, nested=True)
    assert packer is not None
    row = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    text = json.dumps(row[0].tolist())[1:-1].encode()
    found = packer.rows([text, text])
    assert found is not None
    np.testing.assert_array_equal(found, np.concatenate([row, row]))
    emptied = text.replace(b"0.0", b"", 1)
    assert packer.rows([emptied]) is None
    assert packer.rows([text, emptied]) is None


def _alone(packer: plain_numbers.Packer, text: bytes) -> Array | None:
    """Return the row that a text is, as a call that goes alone is read."""
    if b"t" in text:
        return None
    try:
        return packer.pack(json.loads(b"[%b]" % text))
    except json.JSONDecodeError:
        return None


def test_number_that_one_row_has_too_many_is_not_taken_for_one_that_another_lacks() -> None:
    packer = plain_numbers.packer((1, 2), FP32)
    assert packer is not None
    assert packer.rows([b"1,2,3", b"4"]) is None
    assert packer.rows([b"1,2", b"3,4"]) is not None
