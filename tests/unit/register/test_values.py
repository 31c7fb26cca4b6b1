"""Values to Python and back: types, shapes, strings, and what is no value."""

from __future__ import annotations

import array
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from serving.register.values import Unfit, from_python, to_python
from serving.tensor import BF16, BYTES, DTYPES, FP32, TEXT, DType, Tensor

NUMBERS = [d for d in DTYPES if d not in (BYTES, BF16)]


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (2, 0)])
@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_numbers_keep_type_and_shape_both_ways(dtype: DType, shape: tuple[int, ...]) -> None:
    array = np.ones(shape, dtype.numpy)
    seen = to_python(Tensor("", dtype, shape, array))
    assert isinstance(seen, np.ndarray)
    back = from_python(seen)
    assert (back.dtype, back.shape) == (dtype, shape)
    assert back.array is not None
    assert back.array.tolist() == array.tolist()


def test_numbers_are_the_functions_own() -> None:
    lent = np.zeros((2, 2), np.float32)
    lent.flags.writeable = False
    seen = to_python(Tensor("", FP32, (2, 2), lent))
    seen += 1
    assert not lent.any()


def test_bfloat16_is_widened_and_taken_back() -> None:
    patterns = np.array([0x3FC0, 0xC000], np.uint16)  # 1.5 and -2
    seen = to_python(Tensor("", BF16, (2,), patterns))
    assert seen.dtype == np.float32
    assert seen.tolist() == [1.5, -2.0]
    back = from_python(np.array([1.5, -2.0], ml_dtypes.bfloat16))
    assert back.dtype is BF16
    assert back.array is not None
    assert back.array.tolist() == patterns.tolist()


@pytest.mark.parametrize("shape", [(), (1,)])
def test_text_is_seen_as_str(shape: tuple[int, ...]) -> None:
    assert to_python(Tensor("", TEXT, shape, items=["grüße".encode()])) == "grüße"


@pytest.mark.parametrize("shape", [(), (1,)])
def test_bytes_are_seen_as_an_array_that_can_be_written(shape: tuple[int, ...]) -> None:
    seen = to_python(Tensor("", BYTES, shape, items=[b"a\x00\xff"]))
    seen[0] += 1
    assert (seen.dtype, seen.tolist()) == (np.uint8, [98, 0, 255])


@pytest.mark.parametrize(("dtype", "element"), [(TEXT, str), (BYTES, bytes)], ids=["text", "bytes"])
@pytest.mark.parametrize("shape", [(4,), (2, 2), (0,), (1, 1)])
def test_several_strings_are_seen_as_an_array_of_objects(
    dtype: DType, element: type, shape: tuple[int, ...]
) -> None:
    count = int(np.prod(shape))
    items = [str(i).encode() for i in range(count)]
    seen = to_python(Tensor("", dtype, shape, items=items))
    assert (seen.dtype, seen.shape) == (object, shape)
    assert all(isinstance(item, element) for item in seen.ravel())
    if count:
        back = from_python(seen)
        assert (back.dtype, back.shape, back.items) == (dtype, shape, items)


class MindSporeTensor:
    def asnumpy(self) -> Any:
        return np.array([1, 2], np.int8)


class Picture:
    """As those of Pillow."""

    def __init__(self) -> None:
        self._pixels = np.array([[1, 2], [3, 4]], np.uint8)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._pixels.__array_interface__


class TorchTensor:
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array([1, 2], np.float32)


class OnDevice:
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise TypeError("copy it to the CPU first")


GIVEN: list[tuple[Any, str, tuple[int, ...], Any]] = [
    (True, "BOOL", (), True),
    (7, "INT64", (), 7),
    (-(2**63), "INT64", (), -(2**63)),
    (1.5, "FP64", (), 1.5),
    (np.float16(1.5), "FP16", (), 1.5),
    (np.bool_(True), "BOOL", (), True),
    (np.uint8(3), "UINT8", (), 3),
    (np.array(3.0), "FP64", (), 3.0),
    (np.array([1, 2], ">i4"), "INT32", (2,), [1, 2]),
    (np.asfortranarray([[1, 2, 3], [4, 5, 6]]), "INT64", (2, 3), [[1, 2, 3], [4, 5, 6]]),
    (np.arange(6, dtype=np.int8).reshape(2, 3).T, "INT8", (3, 2), [[0, 3], [1, 4], [2, 5]]),
    (np.arange(6, dtype=np.int8)[::-2], "INT8", (3,), [5, 3, 1]),
    (MindSporeTensor(), "INT8", (2,), [1, 2]),
    ([1, 2], "INT64", (2,), [1, 2]),
    ([1.5, 2], "FP64", (2,), [1.5, 2.0]),
    ((True, False), "BOOL", (2,), [True, False]),
    ([[1, 2], (3, 4)], "INT64", (2, 2), [[1, 2], [3, 4]]),
    ([2**63], "UINT64", (1,), [2**63]),
    ([], "FP64", (0,), []),
    (range(3), "INT64", (3,), [0, 1, 2]),
    ([np.float32(1), np.float32(2)], "FP32", (2,), [1.0, 2.0]),
    ([np.zeros((1, 2), np.int8)] * 2, "INT8", (2, 1, 2), [[[0, 0]], [[0, 0]]]),
    (array.array("f", [1, 2]), "FP32", (2,), [1.0, 2.0]),
    (Picture(), "UINT8", (2, 2), [[1, 2], [3, 4]]),
    (TorchTensor(), "FP32", (2,), [1.0, 2.0]),
]


@pytest.mark.parametrize(("given", "dtype", "shape", "values"), GIVEN)
def test_numbers_are_taken_from_python(
    given: Any, dtype: str, shape: tuple[int, ...], values: Any
) -> None:
    tensor = from_python(given)
    assert (tensor.dtype.name, tensor.shape) == (dtype, shape)
    assert tensor.array is not None
    assert tensor.array.flags.c_contiguous
    assert tensor.array.tolist() == values


STRINGS: list[tuple[Any, DType, tuple[int, ...], list[bytes]]] = [
    ("grüße", TEXT, (), ["grüße".encode()]),
    ("", TEXT, (), [b""]),
    (np.str_("a"), TEXT, (), [b"a"]),
    (b"\x00\xff", BYTES, (), [b"\x00\xff"]),
    (np.bytes_(b"a\x00"), BYTES, (), [b"a\x00"]),
    (bytearray(b"a"), BYTES, (), [b"a"]),
    (memoryview(b"ab")[1:], BYTES, (), [b"b"]),
    (np.array(["a", "bc"]), TEXT, (2,), [b"a", b"bc"]),
    (np.array([[b"a"], [b"bc"]]), BYTES, (2, 1), [b"a", b"bc"]),
    (np.array(["a", "b"], object), TEXT, (2,), [b"a", b"b"]),
    (np.array([b"a", bytearray(b"b")], object), BYTES, (2,), [b"a", b"b"]),
    (["a", "bc"], TEXT, (2,), [b"a", b"bc"]),
    ([(b"a\x00",), (b"bc",)], BYTES, (2, 1), [b"a\x00", b"bc"]),
]


@pytest.mark.parametrize(("given", "dtype", "shape", "items"), STRINGS)
def test_strings_are_taken_from_python(
    given: Any, dtype: DType, shape: tuple[int, ...], items: list[bytes]
) -> None:
    tensor = from_python(given)
    assert (tensor.dtype, tensor.shape, tensor.array) == (dtype, shape, None)
    assert list(tensor.items or ()) == items


async def coroutine() -> None:
    """Never awaited; closed by the test."""


WRONG: list[tuple[Any, str]] = [
    (None, "None (a 'return' may be missing), which is no numpy array, number, bool, str or bytes"),
    ([[1], [2, 3]], "a list whose elements differ in size, which makes no array"),
    ([np.zeros(2), np.zeros(3)], "a list whose elements differ in size"),
    (["a", ["b"]], "a list whose elements differ in size"),
    ([1, "a"], "a list that holds something else than numbers, only str or only bytes"),
    ((b"a", "a"), "a tuple that holds something else than numbers, only str or only bytes"),
    ([None], "a list that holds something else than numbers, only str or only bytes"),
    ([{"a": 1}], "a list that holds something else than numbers"),
    ([2**70], "a list that holds something else than numbers"),
    ([1j], "an array of complex128, which no stage can pass on"),
    (OnDevice(), "an object of type OnDevice, of which numpy makes no array: copy it to the CPU"),
    ({"a": 1}, "an object of type dict, which is no numpy array"),
    ((i for i in "ab"), "a generator (add_stage(..., batch_size=...) is for functions that yield)"),
    (2**63, "the integer 9223372036854775808, which does not fit 64 bits"),
    (1j, "an object of type complex"),
    (
        np.array([1j]),
        "an array of complex128, which no stage can pass on: convert it with .astype()",
    ),
    (np.array(["2020-01-01"], "M8[D]"), "an array of datetime64[D], which no stage can pass on"),
    (np.zeros(1, np.longdouble), "which no stage can pass on"),
    (
        np.array([1, "a"], object),
        "an array of Python objects that are neither all str nor all bytes",
    ),
    (np.array([], object), "an array of Python objects that are neither all str nor all bytes"),
    ("\ud800", "a str with '\\ud800', which is no character"),
]


@pytest.mark.parametrize(("given", "text"), WRONG)
def test_what_is_no_value_is_named(given: Any, text: str) -> None:
    with pytest.raises(Unfit) as caught:
        from_python(given)
    assert text in str(caught.value)


def test_coroutine_is_no_value() -> None:
    never = coroutine()
    with pytest.raises(Unfit, match=r"a coroutine \(stages are plain functions\)"):
        from_python(never)
    never.close()
