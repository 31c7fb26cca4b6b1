"""Read the values of MindSpore Serving's JSON: numbers, strings, lists of them, and base64.

A JSON integer is an int32 and a fraction a float32 for whoever asks for their type, or of the
next wider type where one does not fit that. They are kept as they came, so that an integer input
of any width takes integers and a floating one takes fractions, exactly and in range. A list holds
one kind of element. An object holds bytes::

    {"b64": "AACAPw==", "type": "fp32", "shape": [1]}

``type`` is bytes and ``shape`` a scalar's where they are left out. Texts are those of the
server that its clients know; all of them refuse the whole request.
"""

from __future__ import annotations

import binascii
import math
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from serving.errors import InvalidRequest
from serving.frontends.mindspore import types
from serving.frontends.mindspore.instances import Given, OutOfRange, Typed, flat
from serving.frontends.mindspore.types import MsType
from serving.frontends.rest import plain_numbers
from serving.frontends.shape_limits import MAX_RANK, checked
from serving.tensor import BOOL, Array, DType

_WORDS = types.BY_WORD | {f"fp{n}": types.BY_WORD[f"float{n}"] for n in (16, 32, 64)}
_BOOL = types.BY_WORD["bool"]
_INTEGERS = tuple(types.BY_WORD[word] for word in ("int32", "int64", "uint64"))
_FLOAT32, _FLOAT64 = types.BY_WORD["float32"], types.BY_WORD["float64"]
_MOST_FLOAT32 = float(np.finfo(np.float32).max)
_KEYS = ("b64", "type", "shape")
_FEW = 4096
"""Elements that are packed faster by ``struct`` than by numpy."""
_ONE_STRING = "json array, string or bytes type only support one item"


class Numbers(NamedTuple):
    """Numbers or booleans of one kind (``kind`` is their Python type), in C order."""

    kind: type
    shape: tuple[int, ...]
    elements: list[Any]
    item: None = None

    @property
    def type(self) -> MsType:
        """The type that their kind stands for, or a wider one where that would change one."""
        if self.kind is bool:
            return _BOOL
        low, high = min(self.elements), max(self.elements)
        if self.kind is float:
            return _FLOAT32 if low >= -_MOST_FLOAT32 and high <= _MOST_FLOAT32 else _FLOAT64
        for kind in _INTEGERS:
            bounds = np.iinfo(kind.dtype.numpy)
            if bounds.min <= low and high <= bounds.max:
                return kind
        return _INTEGERS[-1]

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers in that type."""
        return len(self.elements) * self.type.dtype.itemsize

    def numbers(self, dtype: DType) -> Array | None:
        """Return the numbers in a type of their kind, None for another; raises OutOfRange."""
        assert dtype.numpy is not None
        if self.kind is bool:
            return np.array(self.elements, bool) if dtype is BOOL else None
        if dtype.numpy.kind not in ("iu" if self.kind is int else "f"):
            return None
        few = len(self.elements) <= _FEW
        packed = plain_numbers.pack(self.elements, dtype) if few else None
        if packed is not None:
            return packed
        return (_integers if self.kind is int else _floats)(self.elements, dtype)


def read(_name: str, value: Any) -> Given:
    """Return a JSON value, whichever input it is for; raises InvalidRequest."""
    kind = type(value)
    if kind is list:
        return _list(value)
    if kind is dict:
        return _object(value)
    if kind is str:
        return _string(value, ())
    if value is None:
        raise refused("json value is null, it is not supported")
    return Numbers(kind, (), [value])


def refused(text: str) -> InvalidRequest:
    """Return the error for a body that cannot be read."""
    return InvalidRequest(f"Parser request failed, {text}")


def _list(value: list[Any]) -> Given:
    shape, elements = _flattened(value)
    kinds = set(map(type, elements))
    if len(kinds) > 1:
        raise refused("json array, elements type is not equal")
    (kind,) = kinds
    if kind is type(None):
        raise refused("json value is null, it is not supported")
    if kind not in (str, dict):
        return Numbers(kind, shape, elements)
    if shape != (1,):
        raise refused(_ONE_STRING)
    if kind is str:
        return _string(elements[0], shape)
    inner = _object(elements[0])
    if inner.item is None:
        raise refused(_ONE_STRING)
    return Typed(inner.type, shape, None, inner.item)


def _flattened(value: list[Any]) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape of nested lists and what the innermost ones hold."""
    shape: list[int] = []
    level: list[Any] = [value]
    while True:
        size = len(level[0])
        if len(level) > 1 and len(set(map(len, level))) > 1:
            other = next(item for item in level if len(item) != size)
            raise refused(
                f"invalid json array: json size is {len(other)}, "
                f"the dim {len(shape)} expected to be {size}"
            )
        shape.append(size)
        if not size:
            why = "data type is unknown" if len(shape) > 1 else "shape is empty"
            raise refused(f"json array, {why}")
        is_leaf = type(level[0][0]) is not list
        level = level[0] if len(level) == 1 else list(chain.from_iterable(level))
        if is_leaf:
            return tuple(shape), level
        if set(map(type, level)) != {list}:
            raise refused("invalid json array: json type is not array")
        if len(shape) == MAX_RANK:
            raise refused(f"invalid json array: nested more than {MAX_RANK} deep")


def _string(text: str, shape: tuple[int, ...]) -> Typed:
    return Typed(types.STRING, shape, None, text.encode())


def _object(value: dict[str, Any]) -> Typed:
    if not value:
        raise refused("json object, value is empty")
    for key in value:
        if key not in _KEYS:
            raise refused(f"json object, key is not ['b64', 'type', 'shape'], fail key:{key[:80]}")
    if "b64" not in value:
        raise refused("json object, 'b64' should be specified only one time")
    kind = _type(value.get("type", "bytes"))
    shape = _shape(value.get("shape", []))
    if kind.dtype.is_bytes and math.prod(shape) != 1:
        raise refused(
            "json object, only support scalar when data type is string or bytes, "
            "please check 'type' or 'shape'"
        )
    data = _bytes(value["b64"])
    if kind.dtype.is_bytes:
        return Typed(kind, shape, None, _checked_text(data) if kind is types.STRING else data)
    size, count = kind.dtype.itemsize, math.prod(shape)
    if len(data) != size * count:
        raise refused(
            f"size is not matched, decode base64 size:{len(data)}; Given info: "
            f"type:{kind.word}; type size:{size}; element nums:{count}"
        )
    if kind.dtype is BOOL and data.strip(b"\0\1"):
        raise refused("json object, a bool is neither 0 nor 1")
    return Typed(kind, shape, flat(data, kind.dtype))


def _type(word: Any) -> MsType:
    if not isinstance(word, str):
        raise refused("json object, key is 'type', value should be string type")
    if word not in _WORDS:
        raise refused(f"json object, specified type:'{word[:80]}' is illegal")
    return _WORDS[word]


def _shape(sizes: Any) -> tuple[int, ...]:
    if not isinstance(sizes, list):
        raise refused("json object, key is 'shape', value should be array type")
    if any(type(size) is not int or size < 0 for size in sizes):
        raise refused("json object, key is 'shape', array value should be unsigned integer")
    return checked(sizes, "shape")


def _bytes(text: Any) -> bytes:
    if not isinstance(text, str):
        raise refused("get scalar data failed, type is string, but json is not string type")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise refused(f"'{text[:80]}' is illegal b64 encode string") from None


def _checked_text(data: bytes) -> bytes:
    try:
        data.decode()
    except UnicodeDecodeError:
        raise refused("json object, 'b64' of type 'str' is not UTF-8") from None
    return data


def _integers(elements: list[int], dtype: DType) -> Array:
    assert dtype.numpy is not None
    bounds = np.iinfo(dtype.numpy)
    for extreme in (min(elements), max(elements)):
        if not bounds.min <= extreme <= bounds.max:
            raise OutOfRange(extreme)
    return np.array(elements, dtype.numpy)


def _floats(elements: list[float], dtype: DType) -> Array:
    with np.errstate(over="ignore"):
        array = np.array(elements, np.float64).astype(dtype.numpy)
    # JSON has no infinity, so one was a number that is too large for the type.
    infinite = np.isinf(array)
    if infinite.any():
        raise OutOfRange(elements[int(np.argmax(infinite))])
    return array
