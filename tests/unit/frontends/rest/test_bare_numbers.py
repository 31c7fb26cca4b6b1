"""NaN and the infinities as bare words: read, and written where the numbers are."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.frontends.rest import bare_numbers
from serving.tensor import BF16, FP32, Tensor, float32_to_bf16

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def named(value: object) -> object:
    """Return a document with the words for its numbers that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, list):
        return [named(item) for item in value]
    if isinstance(value, dict):
        return {key: named(item) for key, item in value.items()}
    return value


@given(JSON, st.booleans())
def test_bare_words_are_quoted_and_strings_stay_as_they_are(value: object, ascii: bool) -> None:
    written = json.dumps(value, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    read = json.loads(
        bare_numbers.quoted(written).decode("utf-8", "surrogatepass"),
        parse_constant=lambda word: pytest.fail(f"{word} was left bare"),
    )
    assert read == named(value)


def test_short_forms_are_those_that_the_other_server_reads() -> None:
    assert bare_numbers.quoted(b"[Inf, -Inf,-NaN ]") == b'["Infinity", "-Infinity","NaN" ]'


@pytest.mark.parametrize("body", [b'"\\' * 200_000 + b"NaN", b'"' * 200_001 + b"NaN", b'"NaN\\'])
def test_a_body_of_quotes_is_walked_through_once(body: bytes) -> None:
    start = time.process_time()
    bare_numbers.quoted(body)
    assert time.process_time() - start < 5


@given(st.lists(st.floats(width=32), max_size=20))
def test_floats_are_written_so_that_they_read_back(values: list[float]) -> None:
    array = np.array(values, np.float32)
    read = json.loads(bare_numbers.text(array))
    assert np.array_equal(np.array(read, np.float32), array, equal_nan=True)
    assert all(isinstance(value, float) for value in read)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 2, 2), (2, 0), (0, 3)])
@pytest.mark.parametrize("odd", [False, True])
def test_rows_are_the_rows_of_the_whole(shape: tuple[int, ...], odd: bool) -> None:
    array = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    if odd and array.size:
        array[-1] = -math.inf
    whole = json.loads(bare_numbers.text(array))
    assert [json.loads(row) for row in bare_numbers.rows(array)] == whole
    assert whole == array.tolist()


def test_bf16_is_written_as_the_floats_that_it_means() -> None:
    values = np.array([[1.5, -2.0]], np.float32)
    for tensor in (Tensor.of("y", values), Tensor("y", BF16, (1, 2), float32_to_bf16(values))):
        assert bare_numbers.text(bare_numbers.numbers(tensor)) == b"[[1.5,-2.0]]"
    assert FP32.numpy == values.dtype
