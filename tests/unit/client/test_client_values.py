"""What a caller gives becomes the declared tensor, or an error that says what to do."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.client import prediction, values
from serving.client.prediction import Prediction
from serving.errors import InvalidRequest
from serving.tensor import BF16, BY_NAME, BYTES, DTYPES, Tensor, TensorSpec, bf16_to_float32
from serving.v1 import tensors

NUMBERS = [d for d in DTYPES if not d.is_bytes]


def spec(dtype: str, shape: tuple[int | str, ...] | None = None) -> TensorSpec:
    return TensorSpec("x", BY_NAME[dtype], shape)


def refusal(value: Any, dtype: str) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        values.to_tensor("x", value, spec(dtype))
    assert refused.value.where == "inputs.x"
    return refused.value


def answered(tensor: Tensor, json: bool = False) -> Prediction:
    """Return what a client would get if the server sent this tensor."""
    return prediction.read(tensors.pack(b"", tensors.RESPONSE_OUTPUTS, [(tensor, json)]))


@pytest.mark.parametrize("dtype", NUMBERS, ids=repr)
@given(data=st.data())
def test_array_of_every_dtype_comes_back_bit_for_bit(dtype: Any, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(0, 3), max_size=3)))
    size = int(np.prod(shape)) * dtype.itemsize
    raw = data.draw(st.binary(min_size=size, max_size=size))
    if dtype.name == "BOOL":
        raw = bytes(byte & 1 for byte in raw)
    array = np.frombuffer(raw, dtype.numpy).reshape(shape)
    sent = values.to_tensor("x", array, TensorSpec("x", dtype, None))
    assert (sent.dtype, sent.shape) == (dtype, shape)
    back = answered(sent)["x"]
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, shape, raw)
    assert back.flags.writeable
    assert back.flags.aligned


@given(st.lists(st.text(max_size=5), max_size=5))
def test_text_comes_back_as_str(items: list[str]) -> None:
    for value in (items, np.array(items, dtype=object)):
        sent = values.to_tensor("x", value, spec("BYTES"))
        back = answered(sent)["x"]
        assert back.tolist() == items
        assert back.shape == (len(items),)


def test_bytes_that_are_no_text_come_back_as_bytes() -> None:
    sent = values.to_tensor("x", [[b"\xff", "é"]], spec("BYTES"))
    assert answered(sent)["x"].tolist() == [[b"\xff", "é".encode()]]


def test_documents_come_back_as_python_values_one_a_row() -> None:
    tensor = Tensor("x", BYTES, (2,), items=[b"[1, 2]", b'{"a": [3]}'])
    back = answered(tensor, json=True)["x"]
    assert back.shape == (2,)
    assert back.tolist() == [[1, 2], {"a": [3]}]


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("FP32", [[1, 2.5]], np.array([[1, 2.5]], np.float32)),
        ("FP16", [1, 2], np.array([1, 2], np.float16)),
        ("FP64", 3, np.array(3.0)),
        ("INT64", [2**63 - 1, -(2**63)], np.array([2**63 - 1, -(2**63)])),
        ("UINT64", [2**64 - 1], np.array([2**64 - 1], np.uint64)),
        ("INT8", [-128, 127], np.array([-128, 127], np.int8)),
        ("BOOL", [[True], [False]], np.array([[True], [False]])),
        ("UINT8", [], np.array([], np.uint8)),
        ("FP32", [np.float64(1), np.int8(2)], np.array([1, 2], np.float32)),
        ("FP32", [np.zeros(2), np.ones(2)], np.array([[0, 0], [1, 1]], np.float32)),
        ("FP32", np.array([1, 2], ">f4"), np.array([1, 2], np.float32)),
        ("FP32", np.array([1, 200], np.uint8), np.array([1, 200], np.float32)),
        ("INT64", np.array([1, 2], np.int32), np.array([1, 2])),
        ("FP64", np.array([0.1], np.float32), np.array([np.float32(0.1)], np.float64)),
    ],
)
def test_value_becomes_the_declared_dtype(dtype: str, value: Any, expected: Any) -> None:
    sent = values.to_tensor("x", value, spec(dtype))
    assert sent.dtype is BY_NAME[dtype]
    assert sent.array is not None
    assert sent.array.dtype == expected.dtype
    assert sent.shape == expected.shape
    np.testing.assert_array_equal(sent.array, expected)


@pytest.mark.parametrize(
    "value",
    [[1, 0.1, -3.5], np.array([1, 0.1, -3.5], ml_dtypes.bfloat16)],
    ids=["list", "ml_dtypes"],
)
def test_bfloat16_is_rounded_from_lists_and_taken_from_ml_dtypes(value: Any) -> None:
    sent = values.to_tensor("x", value, spec("BF16"))
    expected = np.array([1, 0.1, -3.5], ml_dtypes.bfloat16)
    assert sent.dtype is BF16
    assert sent.array is not None
    np.testing.assert_array_equal(sent.array, expected.view(np.uint16))
    np.testing.assert_array_equal(bf16_to_float32(sent.array), expected.astype(np.float32))


@pytest.mark.parametrize(
    ("dtype", "value", "fix"),
    [
        ("FP32", np.zeros(2), "array.astype(np.float32)"),
        ("FP64", np.zeros(2, np.int64), "array.astype(np.float64)"),
        ("INT32", np.zeros(2, np.int64), "array.astype(np.int32)"),
        ("UINT8", np.zeros(2, np.int8), "array.astype(np.uint8)"),
        ("BF16", np.zeros(2, np.float32), "float32_to_bf16"),
    ],
)
def test_array_that_would_lose_something_is_refused_with_the_cast(
    dtype: str, value: Any, fix: str
) -> None:
    error = refusal(value, dtype)
    assert error.code == "wrong_dtype"
    assert dtype in error.expected
    assert str(value.dtype) in error.given
    assert fix in error.fix


@pytest.mark.parametrize(
    ("dtype", "value", "code"),
    [
        ("INT64", [1.0], "wrong_dtype"),
        ("INT8", [128], "out_of_range"),
        ("UINT64", [-1], "out_of_range"),
        ("INT64", [2**63], "out_of_range"),
        ("UINT64", [2**64], "wrong_dtype"),
        ("FP16", [70000], "out_of_range"),
        ("FP32", [1e300], "out_of_range"),
        ("FP32", ["a"], "wrong_dtype"),
        ("FP32", [None], "wrong_dtype"),
        ("FP32", [True], "wrong_dtype"),
        ("BOOL", [1], "wrong_dtype"),
        ("FP32", [[1], [2, 3]], "ragged"),
        ("BYTES", [["a"], ["b", "c"]], "ragged"),
        ("BYTES", [1], "wrong_dtype"),
        ("BYTES", np.zeros(2), "wrong_dtype"),
        ("FP32", np.array(["a"]), "wrong_dtype"),
        ("FP32", np.zeros(2, complex), "wrong_dtype"),
    ],
)
def test_value_that_does_not_fit_is_refused(dtype: str, value: Any, code: str) -> None:
    assert refusal(value, dtype).code == code


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_infinities_and_nan_of_a_list_are_kept(special: float) -> None:
    sent = values.to_tensor("x", [special], spec("FP16"))
    assert sent.array is not None
    np.testing.assert_array_equal(sent.array, np.array([special], np.float16))


def test_bare_scalar_is_taken_where_every_size_may_be_one() -> None:
    assert values.to_tensor("x", "a", spec("BYTES", ("n", 1))).shape == (1, 1)
    assert values.to_tensor("x", 3, spec("INT64", ("n",))).shape == (1,)
    assert values.to_tensor("x", 3, spec("INT64", ("n", 2))).shape == ()
    assert values.to_tensor("x", [3], spec("INT64", ("n", 1))).shape == (1,)


def test_input_that_is_not_declared_is_sent_as_it_looks() -> None:
    found = [values.to_tensor("x", v, None).dtype.name for v in ([1], [1.5], "a", [["b"]])]
    assert found == ["INT64", "FP64", "BYTES", "BYTES"]
    with pytest.raises(InvalidRequest):
        values.to_tensor("x", None, None)
