"""TensorFlow's tensor messages: every type in every form, and what is wrong with one."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import protobuf
from serving.errors import InvalidRequest, ServingError, TooLarge
from serving.frontends.grpc import tf_tensor
from serving.frontends.grpc.stubs import tensorflow_pb2 as pb
from serving.frontends.grpc.tf_tensor import Allowance
from serving.protobuf import Malformed
from serving.tensor import (
    BF16,
    BOOL,
    BYTES,
    DTYPES,
    FP16,
    FP32,
    FP64,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    DType,
    Tensor,
    element_count,
)

LISTS = {
    FP32: "float_val", FP64: "double_val", INT8: "int_val", INT16: "int_val", INT32: "int_val",
    UINT8: "int_val", UINT16: "int_val", INT64: "int64_val", UINT32: "uint32_val",
    UINT64: "uint64_val", BOOL: "bool_val", FP16: "half_val", BF16: "half_val",
    BYTES: "string_val",
}  # fmt: skip
NUMBERS = {
    FP32: 1, FP64: 2, INT32: 3, UINT8: 4, INT16: 5, INT8: 6, BYTES: 7, INT64: 9, BOOL: 10,
    BF16: 14, UINT16: 17, FP16: 19, UINT32: 22, UINT64: 23,
}  # fmt: skip
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(SHAPES)
    count = element_count(shape)
    if dtype is BYTES:
        items = draw(st.lists(st.binary(max_size=5), min_size=count, max_size=count))
        return Tensor("x", dtype, shape, items=items)
    if dtype is BOOL:
        bits = draw(st.lists(st.booleans(), min_size=count, max_size=count))
        return Tensor("x", dtype, shape, np.array(bits, bool).reshape(shape))
    data = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    return Tensor("x", dtype, shape, np.frombuffer(data, dtype.numpy).reshape(shape))


def message(dtype: DType, *shape: int, **fields: Any) -> pb.TensorProto:
    made = pb.TensorProto(dtype=NUMBERS[dtype], **fields)
    made.tensor_shape.SetInParent()  # of a scalar, too
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


def read(given: pb.TensorProto | bytes, limit_bytes: int = 1 << 20) -> Tensor:
    data = given if isinstance(given, bytes) else given.SerializeToString()
    return tf_tensor.read(tf_tensor.seal("x", memoryview(data)), Allowance(limit_bytes))


def refused(given: pb.TensorProto, limit_bytes: int = 1 << 20) -> ServingError:
    with pytest.raises(ServingError) as failed:
        read(given, limit_bytes)
    return failed.value


def listed(tensor: Tensor) -> pb.TensorProto:
    """Return a tensor's message as protobuf itself fills it, element by element."""
    if tensor.array is None:
        values: Any = tensor.items
    elif tensor.dtype in (FP16, BF16):
        values = tensor.array.reshape(-1).view(np.uint16).tolist()
    else:
        values = tensor.array.reshape(-1).tolist()
    return message(tensor.dtype, *tensor.shape, **{LISTS[tensor.dtype]: values})


def content(tensor: Tensor) -> bytes:
    if tensor.array is not None:
        return tensor.array.tobytes()
    items = tensor.items or ()
    return b"".join(protobuf.as_varint(len(item)) for item in items) + b"".join(items)


def assert_same(found: Tensor, tensor: Tensor) -> None:
    assert (found.name, found.dtype, found.shape) == ("x", tensor.dtype, tensor.shape)
    if tensor.array is None:
        assert list(found.items or ()) == list(tensor.items or ())
    else:
        assert found.array is not None
        assert found.array.shape == tensor.shape
        assert found.array.dtype == tensor.array.dtype
        assert found.array.tobytes() == tensor.array.tobytes()


@given(tensors())
def test_tensor_is_read_from_its_list(tensor: Tensor) -> None:
    # Through Python's float a NaN of 32 bits may change its bits; as content it does not, below.
    if not (tensor.dtype is FP32 and np.isnan(tensor.array).any()):
        assert_same(read(listed(tensor)), tensor)


@given(tensors())
def test_tensor_is_read_from_its_content(tensor: Tensor) -> None:
    assert_same(read(message(tensor.dtype, *tensor.shape, tensor_content=content(tensor))), tensor)


@given(tensors())
def test_tensor_is_written_into_the_list_of_its_type(tensor: Tensor) -> None:
    wire = b"".join(tf_tensor.write(tensor))
    if not (tensor.dtype is FP32 and np.isnan(tensor.array).any()):
        assert wire == listed(tensor).SerializeToString()
    assert_same(read(wire), tensor)


@given(tensors())
def test_fields_may_come_in_any_order(tensor: Tensor) -> None:
    whole = message(tensor.dtype, *tensor.shape, tensor_content=content(tensor))
    elements = pb.TensorProto(tensor_content=whole.tensor_content).SerializeToString()
    whole.ClearField("tensor_content")
    assert_same(read(elements + whole.SerializeToString()), tensor)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [(d, 1) for d in LISTS if d not in (BYTES, BOOL)] + [(BOOL, True), (BYTES, b"ab")],
    ids=str,
)
def test_the_last_element_stands_for_those_that_follow(dtype: DType, value: Any) -> None:
    zero = type(value)()
    found = read(message(dtype, 2, 2, **{LISTS[dtype]: [zero, value]}))
    nothing = read(message(dtype, 2, 2))
    if dtype is BYTES:
        assert (found.items, nothing.items) == ([b"", b"ab", b"ab", b"ab"], [b""] * 4)
        return
    assert found.array is not None
    assert nothing.array is not None
    bits = found.array.view(np.uint16) if dtype in (FP16, BF16) else found.array
    assert bits.tolist() == [[0, 1], [1, 1]]
    assert not nothing.array.any()
    assert nothing.array.shape == (2, 2)


def test_repeated_elements_are_bounded_for_all_inputs_together() -> None:
    assert read(message(FP32, 256, float_val=[1]), 1024).array is not None
    error = refused(message(FP32, 257, float_val=[1]), 1024)
    assert isinstance(error, TooLarge)
    assert (error.code, error.where, error.limit) == ("unpacked_too_large", "inputs.x", 1024)
    assert isinstance(refused(message(INT8, 1 << 50)), TooLarge)
    assert isinstance(refused(message(BYTES, 1 << 50, string_val=[b"a"])), TooLarge)
    assert isinstance(refused(message(BYTES, 100, string_val=[b"a" * 100]), 5000), TooLarge)
    allowance = Allowance(20)
    sealed = tf_tensor.seal("x", memoryview(message(FP32, 4).SerializeToString()))
    assert tf_tensor.read(sealed, allowance).array is not None
    with pytest.raises(TooLarge):
        tf_tensor.read(sealed, allowance)
    everything = message(FP32, 2, float_val=[1, 2])
    assert read(everything, 0).array is not None  # nothing is repeated


def test_a_list_may_come_in_parts_and_unpacked() -> None:
    head = message(FP32, 3).SerializeToString()
    parts = [pb.TensorProto(float_val=[v]).SerializeToString() for v in (1.0, 2.0)]
    unpacked = b"\x2d" + struct.pack("<f", 3.0)  # field 5, 32 bits
    found = read(head + parts[0] + parts[1] + unpacked)
    assert found.array is not None
    assert found.array.tolist() == [1, 2, 3]
    found = read(head + unpacked * 3)
    assert found.array is not None
    assert found.array.tolist() == [3, 3, 3]


def test_numbers_as_in_memory_are_not_copied() -> None:
    array = np.arange(6, dtype=np.float32)
    for whole in (
        message(FP32, 6, tensor_content=array.tobytes()),
        message(FP32, 6, float_val=array.tolist()),
    ):
        data = whole.SerializeToString()
        found = read(data)
        assert found.array is not None
        assert np.shares_memory(found.array, np.frombuffer(data, np.uint8))


WRONG = {
    "no_type": (pb.TensorProto(float_val=[1]), "unknown_dtype"),
    "complex": (pb.TensorProto(dtype=8), "unknown_dtype"),
    "number_of_no_type": (pb.TensorProto(dtype=99), "unknown_dtype"),
    "unknown_rank": (
        pb.TensorProto(dtype=1, tensor_shape=pb.TensorShapeProto(unknown_rank=True)), "bad_shape"
    ),
    "negative": (message(FP32, -1, float_val=[1]), "bad_shape"),
    "axes": (message(FP32, *[1] * 33, float_val=[1]), "bad_shape"),
    "huge": (message(FP32, 1 << 40, 1 << 40), "bad_shape"),
    "surplus": (message(FP32, 1, float_val=[1, 2]), "wrong_size"),
    "surplus_strings": (message(BYTES, 1, string_val=[b"a", b"b"]), "wrong_size"),
    "other_list": (message(FP32, 1, int_val=[1]), "wrong_field"),
    "two_lists": (message(INT32, 1, int_val=[1], int64_val=[1]), "wrong_field"),
    "list_and_content": (message(INT32, 1, int_val=[1], tensor_content=b"abcd"), "wrong_field"),
    "content_and_list": (message(FP32, 1, tensor_content=b"abcd", float_val=[1]), "wrong_field"),
    "doubles_for_floats": (message(FP32, 1, double_val=[1]), "wrong_field"),
    "short_content": (message(FP32, 2, tensor_content=b"abcd"), "wrong_size"),
    "long_content": (message(FP32, 1, tensor_content=b"abcdefgh"), "wrong_size"),
    "odd_bool": (message(BOOL, 1, tensor_content=b"\2"), "bad_element"),
    "int8": (message(INT8, 1, int_val=[128]), "out_of_range"),
    "uint8": (message(UINT8, 1, int_val=[-1]), "out_of_range"),
    "uint16": (message(UINT16, 2, int_val=[1, 65536]), "out_of_range"),
    "half": (message(FP16, 1, half_val=[65536]), "out_of_range"),
    "strings_short": (message(BYTES, 2, tensor_content=b"\1\1a"), "wrong_size"),
    "strings_long": (message(BYTES, 1, tensor_content=b"\1ab"), "wrong_size"),
    "strings_lengths": (message(BYTES, 3, tensor_content=b"\xff\xff\xff"), "wrong_size"),
    "strings_few": (message(BYTES, 9, tensor_content=b"\0"), "wrong_size"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_tensor_is_named(name: str) -> None:
    given, code = WRONG[name]
    error = refused(given)
    assert isinstance(error, InvalidRequest)
    assert error.code == code
    assert error.where.startswith("inputs.x")


def test_a_wrong_field_names_the_right_one() -> None:
    error = refused(message(INT64, 1, int_val=[1]))
    assert (error.expected, error.given) == ("int64_val or tensor_content for DT_INT64", "int_val")


@given(st.binary(max_size=40))
def test_any_bytes_are_a_tensor_or_refused(data: bytes) -> None:
    with contextlib.suppress(Malformed, InvalidRequest, TooLarge):
        assert read(data, 1 << 16).name == "x"


def test_floats_cut_within_one_are_malformed() -> None:
    head = message(FP32, 1).SerializeToString()
    with pytest.raises(Malformed):
        read(head + b"\x2a\x03abc")


def test_numbers_written_one_by_one_are_slow() -> None:
    floats = Tensor.of("y", np.zeros(100, np.float32))
    integers = Tensor.of("y", np.zeros(100, np.int32))
    assert not tf_tensor.is_slow([floats], 100)
    assert tf_tensor.is_slow([floats, integers], 100)
    assert not tf_tensor.is_slow([integers], 400)
