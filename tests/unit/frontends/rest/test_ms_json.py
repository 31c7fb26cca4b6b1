"""JSON values as MindSpore Serving reads them, and what is said of those it does not."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from serving.errors import InvalidRequest
from serving.frontends.mindspore import types
from serving.frontends.mindspore.instances import OutOfRange
from serving.frontends.rest import ms_json
from serving.tensor import (
    BOOL,
    FP16,
    FP32,
    FP64,
    INT8,
    INT32,
    INT64,
    UINT8,
    UINT64,
    DType,
)


def b64(data: bytes, **more: Any) -> dict[str, Any]:
    return {"b64": base64.b64encode(data).decode(), **more}


@pytest.mark.parametrize(
    ("value", "word", "shape", "nbytes"),
    [
        (5, "int32", (), 4),
        (-(2**31), "int32", (), 4),
        (2**31, "int64", (), 8),
        (2.0, "float32", (), 4),
        (True, "bool", (), 1),
        ("é", "str", (), 0),
        (["a"], "str", (1,), 0),
        ([[1, 2], [3, 4], [5, 6]], "int32", (3, 2), 24),
        ([[[1.5], [2.5]]], "float32", (1, 2, 1), 8),
        (b64(b"abc"), "bytes", (), 0),
        ([b64(b"abc", type="str")], "str", (1,), 0),
        (b64(bytes(6), type="fp16", shape=[3]), "float16", (3,), 6),
        (b64(bytes(8), type="int64"), "int64", (), 8),
    ],
)
def test_a_value_has_the_type_and_shape_that_clients_know(
    value: Any, word: str, shape: tuple[int, ...], nbytes: int
) -> None:
    found = ms_json.read("x", value)
    assert (found.type.word, found.shape, found.nbytes) == (word, shape, nbytes)


@pytest.mark.parametrize("kind", [k for k in types.TYPES if not k.dtype.is_bytes])
def test_base64_holds_numbers_of_every_type(kind: types.MsType) -> None:
    array = np.arange(2).astype(kind.dtype.numpy)
    found = ms_json.read("x", b64(array.tobytes(), type=kind.word, shape=[2])).numbers(kind.dtype)
    assert found is not None
    assert np.array_equal(found, array)


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ([1, 255], UINT8, [1, 255]),
        ([2**40, -(2**63)], INT64, [2**40, -(2**63)]),
        ([2**64 - 1], UINT64, [2**64 - 1]),
        ([0.1, -2.5], FP64, [0.1, -2.5]),
        ([0.1], FP32, [0.10000000149011612]),
        ([0.1], FP16, [0.0999755859375]),
        ([True, False], BOOL, [True, False]),
    ],
)
def test_numbers_fit_any_width_of_their_kind(value: Any, dtype: DType, expected: Any) -> None:
    found = ms_json.read("x", value).numbers(dtype)
    assert found is not None
    assert (found.dtype, found.tolist()) == (dtype.numpy, expected)


@pytest.mark.parametrize(
    ("value", "dtype"), [(1, FP32), (1.0, INT32), (True, INT32), (1, BOOL), ("1", INT32)]
)
def test_no_kind_is_taken_for_another(value: Any, dtype: DType) -> None:
    assert ms_json.read("x", value).numbers(dtype) is None


@pytest.mark.parametrize(
    ("value", "dtype"),
    [([0, 128], INT8), ([-1], UINT64), ([2**40], INT32), ([1.0, 1e300], FP32), ([65520.0], FP16)],
)
def test_a_number_that_does_not_fit_is_refused_and_not_cut(value: Any, dtype: DType) -> None:
    with pytest.raises(OutOfRange):
        ms_json.read("x", value).numbers(dtype)


ONE = "json array, string or bytes type only support one item"
SCALAR = "json object, only support scalar when data type is string or bytes"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "json value is null, it is not supported"),
        ([None], "json value is null, it is not supported"),
        ([], "json array, shape is empty"),
        ([[], []], "json array, data type is unknown"),
        ([1, 2.0], "json array, elements type is not equal"),
        ([[1, 2], [3]], "invalid json array: json size is 1, the dim 1 expected to be 2"),
        ([[1], 2], "invalid json array: json type is not array"),
        ([1, [2]], "json array, elements type is not equal"),
        (["a", "b"], ONE),
        ([["a"]], ONE),
        ([b64(b"a"), b64(b"b")], ONE),
        ([b64(bytes(4), type="fp32")], ONE),
        ({}, "json object, value is empty"),
        ({"type": "fp32"}, "json object, 'b64' should be specified only one time"),
        (b64(b"", foo=1), "json object, key is not ['b64', 'type', 'shape'], fail key:foo"),
        (b64(b"", type=1), "json object, key is 'type', value should be string type"),
        (b64(b"", type="fp8"), "json object, specified type:'fp8' is illegal"),
        (b64(b"", shape=4), "json object, key is 'shape', value should be array type"),
        (b64(b"", shape=[1.0]), "key is 'shape', array value should be unsigned integer"),
        (b64(b"", shape=[-1]), "key is 'shape', array value should be unsigned integer"),
        (b64(b"", shape=[True]), "key is 'shape', array value should be unsigned integer"),
        (b64(b"", shape=[2]), SCALAR),
        (b64(b"", type="str", shape=[0]), SCALAR),
        ({"b64": 5}, "get scalar data failed, type is string, but json is not string type"),
        ({"b64": "!!!!"}, "'!!!!' is illegal b64 encode string"),
        ({"b64": "é==="}, "'é===' is illegal b64 encode string"),
        ({"b64": "YQ==YQ=="}, "'YQ==YQ==' is illegal b64 encode string"),
        (b64(b"\xff", type="str"), "json object, 'b64' of type 'str' is not UTF-8"),
        (b64(b"\2", type="bool"), "json object, a bool is neither 0 nor 1"),
        (
            b64(bytes(3), type="fp16", shape=[2]),
            "size is not matched, decode base64 size:3; "
            "Given info: type:float16; type size:2; element nums:2",
        ),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_in_known_words(value: Any, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ms_json.read("x", value)
    assert str(refused.value).startswith("Parser request failed, ")
    assert said in str(refused.value)


def test_lists_nest_as_deep_as_tensors_do() -> None:
    value: Any = 1
    for _ in range(32):
        value = [value]
    assert ms_json.read("x", value).shape == (1,) * 32
    with pytest.raises(InvalidRequest, match="nested more than 32 deep"):
        ms_json.read("x", [value])


def test_a_shape_that_no_tensor_can_have_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        ms_json.read("x", b64(b"", type="fp32", shape=[2**40, 2**40, 0]))
