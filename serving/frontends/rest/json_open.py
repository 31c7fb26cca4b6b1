"""Read a JSON value for an input of any type: the value itself says which it has.

Integers are INT32, or INT64 (UINT64) where one of them does not fit; numbers with a fraction or
an exponent among them are FP32, or FP64 where one of them does not fit; ``true`` and ``false`` are
BOOL; strings are TEXT, ``{"b64": "..."}`` is BYTES. 32 bits are what stages written for MindSpore
Serving are used to. An integer beyond 64 bits is read as a number with a fraction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from serving.errors import InvalidRequest
from serving.frontends.rest import json_tensor
from serving.frontends.rest.json_document import Document, is_array, is_object, wrong_type
from serving.frontends.value import Value
from serving.tensor import BOOL, BYTES, FP32, FP64, INT32, INT64, TEXT, UINT64, DType

_MOST_FP32 = float(np.finfo(np.float32).max)
_NOTHING = object()
_INTEGERS = (INT32, INT64, UINT64)


def read(document: Document, value: Any, where: str) -> Value:
    """Return nested lists, or one scalar, with the dtype that they amount to.

    Raises InvalidRequest for a list without elements (it says nothing of their type) and what
    ``json_tensor.read`` raises.
    """
    dtype = _dtype(value, where)
    wire = BYTES if dtype is TEXT else dtype
    return replace(json_tensor.read(document, value, wire, where), dtype=dtype)


def strings(value: Any) -> DType:
    """Return the dtype of a JSON value that is read as BYTES: TEXT if all of it are strings."""
    return BYTES if any(is_object(element) for element in _elements(value)) else TEXT


def _dtype(value: Any, where: str) -> DType:
    first = next(_elements(value), _NOTHING)
    if first is _NOTHING:
        raise InvalidRequest(
            "an empty list does not say of which type it is",
            code="wrong_type",
            where=where,
            fix='send {"b64": "", "dtype": "FP32", "shape": [0]}, say',
        )
    if first is None:
        raise wrong_type(where, "a value, or nested lists of values", value)
    if isinstance(first, bool):
        return BOOL
    if isinstance(first, (int, float)):
        return _number_dtype(value, where)
    return strings(value)


def _number_dtype(value: Any, where: str) -> DType:
    """Return the dtype of numbers; elements of other kinds are left for the reader to refuse."""
    whole, low, high = _range(value)
    if not whole:
        return FP32 if low >= -_MOST_FP32 and high <= _MOST_FP32 else FP64
    for dtype in _INTEGERS:
        bounds = np.iinfo(dtype.numpy)
        if bounds.min <= low and high <= bounds.max:
            return dtype
    raise InvalidRequest(
        "the integers do not fit one dtype",
        code="out_of_range",
        where=where,
        expected="all in INT64, or all in UINT64",
        given=f"from {low} to {high}",
    )


def _range(value: Any) -> tuple[bool, float, float]:
    """Return whether all numbers are integers, the least, and the largest."""
    for dtype in (INT64, UINT64, FP64):
        flat = json_tensor.copy_numbers(value, dtype)
        if flat is None:
            continue
        low, high = flat.min().item(), flat.max().item()
        # Integers that fit neither would come as floats too, rounded: those are looked at.
        if dtype is not FP64 or low >= 0 or high < 2**63:
            return dtype is not FP64, low, high
    numbers = [element for element in _elements(value) if isinstance(element, (int, float))]
    return not any(isinstance(number, float) for number in numbers), min(numbers), max(numbers)


def _elements(value: Any) -> Iterator[Any]:
    """Iterate over what nested lists hold; depth is checked by whoever reads them."""
    pending = [iter((value,))]
    while pending:
        for item in pending[-1]:
            if is_array(item):
                pending.append(iter(item))
                break
            yield item
        else:
            pending.pop()
