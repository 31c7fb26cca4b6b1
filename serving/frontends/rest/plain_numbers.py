"""Pack short lists of JSON numbers into arrays, exactly as ``json_tensor`` does, or not at all.

``struct`` refuses what is no number, no integer where one is needed, or out of range, while it
packs; numpy would have to look at the result again. Meant for short lists that orjson has read:
their elements become arguments of one call. ``True`` passes for 1 here: callers keep it out.
Longer ones that all have one shape are read by simdjson.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import orjson
import simdjson

from serving.tensor import UINT64, Array, Dim, DType, element_count

_LETTERS = {"FP32": "f", "FP64": "d", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q"}
_LETTERS |= {"UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q"}

_WIDE = {"d": np.dtype("<f8"), "i": np.dtype("<i8"), "u": np.dtype("<u8")}

_MANY = 100
"""From so many numbers on simdjson's buffers take less time than orjson's lists."""

_AT_ONCE = 4096
"""Numbers that are read in one go: memory for many more comes from the system, which takes long."""

_SQUARES = 1e76
"""Numbers whose squares come to less are within FP32."""

_NO_SKELETON = bytes(set(range(256)) - set(b"[],"))

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
    """Packs lists that are arrays of one shape.

    They are flat, or with ``nested`` one in another as the shape has it behind its first axis.
    """

    __slots__ = (
        "_count", "_dtype", "_letter", "_pack", "_rest", "_rows", "_shape", "_skeleton", "_wide"
    )  # fmt: skip

    def __init__(
        self, letter: str, shape: tuple[int, ...], dtype: DType, *, nested: bool = False
    ) -> None:
        self._shape = shape
        self._rows, self._rest = (shape[0], shape[1:]) if shape else (1, ())
        self._count = element_count(shape)
        self._letter = letter
        self._pack = _packer(letter, self._count).pack
        self._dtype = np.dtype(dtype.numpy)
        self._wide: Literal["d", "i", "u"] = (
            "d" if letter in "fd" else "u" if dtype is UINT64 else "i"
        )
        self._skeleton = _skeleton(shape[1:]) if nested and len(shape) > 2 else b""

    def pack(self, numbers: object) -> Array | None:
        """Return the array of a flat list; None if it does not hold so many numbers that fit."""
        if type(numbers) is not list or len(numbers) != self._count:
            return None
        try:
            data = self._pack(*numbers)
        except (struct.error, OverflowError):
            return None
        return np.frombuffer(data, self._dtype).reshape(self._shape)

    def rows(self, texts: Sequence[bytes]) -> Array | None:
        """Return the arrays that lists are, one behind the other; a text stands within brackets.

        Their shape has an axis at least, the first of which counts them.
        None if one of them is not as the shape has it, or not all are numbers that fit: a number
        too many in one and too few in the next cannot pass, for each has its own brackets and
        commas, and what stands between them are plain numbers.
        """
        skeleton, several = self._skeleton, len(texts) > 1
        if skeleton:
            for text in texts:
                if text.translate(None, _NO_SKELETON) != skeleton:
                    return None
        elif several:
            commas = self._count - 1
            for text in texts:
                if text.count(b",") != commas:
                    return None
        few = not skeleton and self._count * len(texts) < _MANY
        data = self._few(texts) if few else self._many(texts)
        if data is None:
            return None
        return np.ndarray((self._rows * len(texts), *self._rest), self._dtype, data)

    def _few(self, texts: Sequence[bytes]) -> bytes | None:
        whole = b"[%b]" % b",".join(texts)
        # The letters of true and false, which would pass for numbers.
        if b"t" in whole or b"f" in whole:
            return None
        pack = self._pack
        if len(texts) > 1:
            pack = _packer(self._letter, self._count * len(texts)).pack
        try:
            return pack(*orjson.loads(whole))
        except (orjson.JSONDecodeError, struct.error, OverflowError):
            return None

    def _many(self, texts: Sequence[bytes]) -> Array | None:
        """Do without a Python object for each number."""
        found = np.empty(self._count * len(texts), self._dtype)
        parser, step = simdjson.Parser(), max(1, _AT_ONCE // self._count)
        for at in range(0, len(texts), step):
            some = texts[at : at + step]
            wide = self._read(parser, b"[%b]" % b",".join(some))
            if wide is None or len(wide) != self._count * len(some):
                return None
            start = self._count * at
            found[start : start + len(wide)] = wide
        return found

    def _read(self, parser: Any, whole: bytes) -> Array | None:
        """Return all numbers of a list, in a type with room for more than the dtype has."""
        letter, kind = self._wide, self._dtype
        if not self._skeleton and whole.find(b"[", 1) >= 0:
            return None  # simdjson looks into lists within the list
        try:
            wide = np.frombuffer(parser.parse(whole).as_buffer(of_type=letter), _WIDE[letter])
        except (TypeError, ValueError):
            return None
        if kind.itemsize < 8 and len(wide):
            if letter == "d":
                if not _fit_fp32(wide):
                    return None
            elif wide.min() < np.iinfo(kind).min or wide.max() > np.iinfo(kind).max:
                return None
        return wide


@np.errstate(over="ignore")
def _fit_fp32(numbers: Array) -> bool:
    """Return whether all are well within FP32; the sum of squares takes a third of a maximum."""
    return bool(numbers.dot(numbers) < _SQUARES)


def _skeleton(shape: tuple[int, ...]) -> bytes:
    """Return the brackets and commas of nested lists, but for the outermost brackets."""
    text = b""
    for size in reversed(shape):
        text = b"[%b]" % b",".join([text] * size)
    return text[1:-1]


def packer(shape: tuple[int, ...], dtype: DType, *, nested: bool = False) -> Packer | None:
    """Return the packer of a shape; None where there are no numbers, or of another kind."""
    letter = _LETTERS.get(dtype.name)
    if letter is None or 0 in shape:
        return None
    return Packer(letter, shape, dtype, nested=nested)


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
