"""Pack short lists of JSON numbers into arrays, exactly as ``json_tensor`` does, or not at all.

``struct`` refuses what is no number, no integer where one is needed, or out of range, while it
packs; numpy would have to look at the result again. Meant for short lists that orjson has read:
their elements become arguments of one call. ``True`` passes for 1 here: callers keep it out.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from serving.tensor import Array, Dim, DType, element_count

_LETTERS = {"FP32": "f", "FP64": "d", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q"}
_LETTERS |= {"UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q"}

Flat = tuple[tuple[int, ...], list[Any]]


@lru_cache(maxsize=1024)
def _packer(letter: str, count: int) -> struct.Struct:
    return struct.Struct(f"<{count}{letter}")


def pack(numbers: list[Any], dtype: DType) -> Array | None:
    """Return a flat array of ``dtype``; None if a number does not fit it, or none is given."""
    letter = _LETTERS.get(dtype.name)
    if letter is None or not numbers:
        return None
    try:
        data = _packer(letter, len(numbers)).pack(*numbers)
    except (struct.error, OverflowError):
        return None
    return np.frombuffer(data, dtype.numpy)


class Packer:
    """Packs flat lists that are arrays of one shape."""

    __slots__ = ("_count", "_dtype", "_letter", "_pack", "_shape")

    def __init__(self, letter: str, shape: tuple[int, ...], dtype: DType) -> None:
        self._shape = shape
        self._count = element_count(shape)
        self._letter = letter
        self._pack = _packer(letter, self._count).pack
        self._dtype = np.dtype(dtype.numpy)

    def pack(self, numbers: object) -> Array | None:
        """Return the array; None if this is no list of so many numbers that fit the dtype."""
        if type(numbers) is not list or len(numbers) != self._count:
            return None
        try:
            data = self._pack(*numbers)
        except (struct.error, OverflowError):
            return None
        return np.frombuffer(data, self._dtype).reshape(self._shape)

    def rows(self, texts: Sequence[bytes]) -> Array | None:
        """Return the arrays that lists are, one behind the other; a text stands within brackets.

        None if one of them is not as ``pack`` would have it: a number too many in one and too few
        in the next cannot pass, for each has its own count of commas, and all are plain numbers.
        """
        commas = self._count - 1
        for text in texts:
            if text.count(b",") != commas:
                return None
        whole = b"[%b]" % b",".join(texts)
        # The letters of true and false, which would pass for numbers.
        if b"t" in whole or b"f" in whole:
            return None
        count = self._count * len(texts)
        try:
            numbers = orjson.loads(whole)
            data = _packer(self._letter, count).pack(*numbers)
        except (orjson.JSONDecodeError, struct.error, OverflowError):
            return None
        shape = (self._shape[0] * len(texts), *self._shape[1:])
        return np.frombuffer(data, self._dtype).reshape(shape)


def packer(shape: tuple[int, ...], dtype: DType) -> Packer | None:
    """Return the packer of a shape; None where there are no numbers, or of another kind."""
    letter = _LETTERS.get(dtype.name)
    return Packer(letter, shape, dtype) if letter is not None and 0 not in shape else None


def flatten(values: list[Any], dims: tuple[Dim, ...]) -> Flat | None:
    """Return shape and elements of nested lists whose items have the sizes ``dims``.

    A string in ``dims`` is a size that varies. None for lists of other sizes, ragged or empty.
    The elements are not looked at.
    """
    shape = [len(values)]
    for dim in dims:
        first = values[0] if values else None
        if type(first) is not list or not first:
            return None
        size = len(first)
        if isinstance(dim, int) and 0 <= dim != size:
            return None
        if len(values) == 1:
            values = first
        else:
            for value in values:
                if type(value) is not list or len(value) != size:
                    return None
            values = [element for value in values for element in value]
        shape.append(size)
    return tuple(shape), values
