"""Write tensors as JSON values: the way back of ``json_tensor``, with the same conventions.

Floats are written with the fewest digits that read back as the same value of their dtype;
NaN and the infinities as the strings ``"NaN"``, ``"Infinity"``, ``"-Infinity"``. Integers are
written exactly. The values are made for ``orjson`` with ``OPT_SERIALIZE_NUMPY``.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from serving.errors import InternalError
from serving.tensor import BF16, Array, Tensor, bf16_to_float32


def dumps(document: Any) -> bytes:
    """Write a document in which arrays of numbers may stand anywhere."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def numbers(tensor: Tensor) -> Array:
    """Return a tensor's array as numbers that JSON can hold (BF16 as the floats it means).

    With NaN or infinities among them it is an array of objects: numpy scalars and strings.
    """
    assert tensor.array is not None
    array = tensor.array
    if not array.flags.c_contiguous or array.shape != tensor.shape:
        array = np.ascontiguousarray(array).reshape(tensor.shape)
    if tensor.dtype is BF16:
        array = bf16_to_float32(array)
    # Of a short array, looking for a False byte costs a third of numpy's all().
    if array.dtype.kind != "f" or b"\0" not in np.isfinite(array).tobytes():
        return array
    named = np.empty(array.size, dtype=object)
    named[:] = [x if math.isfinite(x) else _name(x) for x in array.reshape(-1)]
    return named.reshape(array.shape)


def _name(value: Any) -> str:
    if value != value:
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def plain(array: Any) -> Any:
    """Return an array (or scalar) of ``numbers`` in a form that ``dumps`` writes."""
    if isinstance(array, np.ndarray):
        if array.dtype.kind == "O" or not array.size:
            return array.tolist()
        return array if array.ndim else array[()]
    return array


class Rows(NamedTuple):
    """A JSON value for each row of an array: a text of its own between what all have in common."""

    before: bytes
    texts: list[bytes]
    after: bytes

    def behind(self, start: bytes) -> Rows:
        """Return the same with something before each."""
        return Rows(start + self.before, self.texts, self.after)


def rows(array: Array) -> Rows | None:
    """Write the rows of an array of numbers; None where JSON does not have some of them."""
    text = dumps(array)
    if b"null" in text:  # NaN or an infinity
        return None
    if array.ndim == 1:
        return Rows(b"", text[1:-1].split(b","), b"")
    if array.ndim == 2 and array.size:
        return Rows(b"[", text[2:-2].split(b"],["), b"]")
    return Rows(b"", [dumps(row) for row in array], b"")


def side_by_side(columns: Sequence[Rows]) -> Rows:
    """Return the values of several arrays for each row, one behind the other."""
    if len(columns) == 1:
        return columns[0]
    whole = [[before + text + after for text in texts] for before, texts, after in columns]
    return Rows(b"", [b"".join(row) for row in zip(*whole, strict=True)], b"")


def text(item: bytes) -> str | dict[str, str]:
    """Return a string element: its text, or ``{"b64": ...}`` when it is no UTF-8."""
    try:
        return item.decode()
    except UnicodeDecodeError:
        return base64(item)


def base64(item: bytes) -> dict[str, str]:
    """Return bytes as ``{"b64": ...}``."""
    return {"b64": binascii.b2a_base64(item, newline=False).decode()}


def document(item: bytes) -> Any:
    """Return a JSON document that a model's sequence or map output consists of, checked."""
    try:
        return orjson.loads(item)
    except orjson.JSONDecodeError:
        raise InternalError("a sequence or map output is not a JSON document") from None


def nested(items: list[Any], shape: tuple[int, ...]) -> Any:
    """Arrange elements in C order as nested lists of ``shape``; one element for ``()``."""
    if not shape:
        return items[0]
    for dim in reversed(shape[1:]):
        if not dim:
            return np.empty(shape, dtype=object).tolist()
        items = [items[i : i + dim] for i in range(0, len(items), dim)]
    return items
