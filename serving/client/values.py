"""Make what a caller gives for an input (array, list, number, text) into the declared tensor.

Arrays say what they are, so they are taken as they are or widened without loss; anything else is
refused with the cast that would do it. Lists, numbers and text say nothing, so they become the
declared dtype if every value fits it. Where any dtype may be, they are what numpy makes of them,
``str`` is TEXT and ``bytes`` is BYTES.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.errors import InvalidRequest
from serving.tensor import (
    ANY,
    BF16,
    BOOL,
    BYTES,
    DTYPES,
    TEXT,
    UINT16,
    Array,
    DType,
    Tensor,
    TensorSpec,
    float32_to_bf16,
)

_BY_NUMPY = {d.numpy.str: d for d in DTYPES if d.numpy is not None and d is not BF16}
_BYTES = (bytes, bytearray, memoryview)


def to_tensor(name: str, value: Any, spec: TensorSpec | None) -> Tensor:
    """Return the value as a tensor of the declared dtype, if one is; ``spec`` None is not known.

    Shapes are left to the server, but for one courtesy: a bare number or text is taken where all
    declared sizes may be 1. Raises InvalidRequest.
    """
    where = f"inputs.{name}"
    if spec is not None and spec.dtype is ANY:
        tensor = to_tensor(name, value, None)
        is_text = tensor.array is None and _is_text(value)
        return Tensor(name, TEXT, tensor.shape, items=tensor.items) if is_text else tensor
    wanted = None if spec is None else spec.dtype
    if hasattr(value, "__array__") and not isinstance(value, np.generic):
        return _from_array(name, np.asarray(value), wanted, where)
    if wanted is BYTES or (wanted is None and _holds_text(value)):
        shape, items = _text(value, where)
        return Tensor(name, BYTES, _scalar_shape(shape, spec), items=items)
    dtype, array = _numbers(value, wanted, where)
    shape = _scalar_shape(array.shape, spec)
    return Tensor(name, dtype, shape, array.reshape(shape))


def _from_array(name: str, array: Array, wanted: DType | None, where: str) -> Tensor:
    if array.dtype.kind in "USOT":
        if wanted not in (None, BYTES):
            raise _wrong(wanted, "an array of strings or objects", where)
        items = [_bytes(item, where) for item in array.reshape(-1).tolist()]
        return Tensor(name, BYTES, array.shape, items=items)
    if array.dtype.name == "bfloat16":  # of the package ml_dtypes, which jax and others use
        array, given = array.view(np.uint16), BF16
    else:
        found = _BY_NUMPY.get(array.dtype.newbyteorder("<").str)
        if found is None:
            raise _wrong(wanted, f"an array of {array.dtype}", where)
        given = BF16 if found is UINT16 and wanted is BF16 else found
    dtype = given if wanted is None else wanted
    if dtype is not given and not _widens(given, dtype):
        raise _wrong(dtype, f"an array of {array.dtype}", where, _cast(dtype))
    return Tensor(name, dtype, array.shape, np.asarray(array, dtype.numpy, order="C"))


def _cast(wanted: DType) -> str:
    """Return what the caller may write to get the dtype."""
    if wanted is BF16:
        return "round it yourself: serving.tensor.float32_to_bf16(array)"
    return "" if wanted.numpy is None else f"cast it yourself: array.astype(np.{wanted.numpy})"


def _widens(given: DType, wanted: DType) -> bool:
    if BF16 in (given, wanted) or given.numpy is None or wanted.numpy is None:
        return False
    if given.numpy.kind in "iu" and wanted.numpy.kind == "f" and given.itemsize == wanted.itemsize:
        return False  # numpy calls 64-bit integers safe in a float64, which has but 53 bits
    return np.can_cast(given.numpy, wanted.numpy, "safe")


def _numbers(value: Any, wanted: DType | None, where: str) -> tuple[DType, Array]:
    try:
        array = np.array(value)
    except ValueError:
        raise InvalidRequest(
            f"the lists of {where} are not a tensor", code="ragged", where=where,
            expected="lists of one length on each level",
        ) from None  # fmt: skip
    if wanted is None:
        found = _BY_NUMPY.get(array.dtype.str)
        if found is None:
            raise _wrong(None, f"values that numpy makes {array.dtype} of", where)
        return found, array
    if not array.size:
        array = array.astype(wanted.numpy)
    _check_kind(array, wanted, where)
    return wanted, _converted(array, wanted, where)


def _check_kind(array: Array, wanted: DType, where: str) -> None:
    assert wanted.numpy is not None
    by_kind = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}
    kinds = by_kind["f" if wanted is BF16 else wanted.numpy.kind]
    if array.dtype.kind not in kinds:
        given = {"b": "booleans", "f": "numbers with a fraction", "U": "text", "S": "text"}
        raise _wrong(wanted, given.get(array.dtype.kind, "values of several kinds or sizes"), where)


def _converted(array: Array, wanted: DType, where: str) -> Array:
    assert wanted.numpy is not None
    if wanted is BOOL:
        return array
    if wanted is not BF16 and wanted.numpy.kind in "iu":
        bounds = np.iinfo(wanted.numpy)
        # As Python's integers: numpy would compare an int64 with a large uint64 as floats.
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        if low < bounds.min or high > bounds.max:
            raise _out_of_range(wanted, low if low < bounds.min else high, where)
        return array.astype(wanted.numpy)
    with np.errstate(over="ignore"):
        floats = array.astype(np.float32 if wanted is BF16 else wanted.numpy)
    lost = np.isinf(floats) & np.isfinite(array)
    if lost.any():
        raise _out_of_range(wanted, array[lost].flat[0], where)
    return float32_to_bf16(floats) if wanted is BF16 else floats


def _holds_text(value: Any) -> bool:
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return isinstance(value, (str, *_BYTES))


def _is_text(value: Any) -> bool:
    """Return whether strings, however nested, are all ``str``."""
    if hasattr(value, "__array__"):
        value = np.asarray(value).tolist()
    if isinstance(value, (list, tuple)):
        return all(map(_is_text, value))
    return isinstance(value, str)


def _text(value: Any, where: str) -> tuple[tuple[int, ...], list[bytes]]:
    """Return shape and elements of nested lists of text, in C order."""
    if not isinstance(value, (list, tuple)):
        return (), [_bytes(value, where)]
    parts = [_text(item, where) for item in value]
    shapes = {shape for shape, _ in parts}
    if len(shapes) > 1:
        raise InvalidRequest(
            f"the lists of {where} are not a tensor", code="ragged", where=where,
            expected="lists of one length on each level",
        )  # fmt: skip
    inner = shapes.pop() if shapes else ()
    return (len(parts), *inner), [item for _, items in parts for item in items]


def _bytes(item: Any, where: str) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, _BYTES):
        return bytes(item)
    raise _wrong(BYTES, f"an element of type {type(item).__name__}", where)


def _scalar_shape(shape: tuple[int, ...], spec: TensorSpec | None) -> tuple[int, ...]:
    if not shape and spec is not None and spec.shape is not None:
        may_be_one = [dim == 1 or isinstance(dim, str) for dim in spec.shape]
        return (1,) * len(may_be_one) if all(may_be_one) else shape
    return shape


def _wrong(wanted: DType | None, given: str, where: str, fix: str = "") -> InvalidRequest:
    expected = "numbers or text" if wanted is None else _EXPECTED.get(wanted, wanted.name)
    return InvalidRequest(
        f"the value does not fit the dtype of {where}",
        code="wrong_dtype", where=where, expected=expected, given=given, fix=fix,
    )  # fmt: skip


_EXPECTED = {
    BYTES: "BYTES: str or bytes, or lists or arrays of them",
    BF16: "BF16: raw 16-bit patterns in a uint16 array, an ml_dtypes.bfloat16 array, or a list",
}


def _out_of_range(wanted: DType, given: object, where: str) -> InvalidRequest:
    return InvalidRequest(
        f"a number of {where} is out of range for {wanted.name}",
        code="out_of_range", where=where, given=str(given),
    )  # fmt: skip
