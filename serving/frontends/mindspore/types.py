"""MindSpore Serving's data types: numbers on the wire, names in texts, and what they hold."""

from __future__ import annotations

from typing import NamedTuple

from serving.tensor import (
    BF16,
    BOOL,
    BYTES,
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
)


class MsType(NamedTuple):
    """One type. ``word`` is its name in JSON, ``name`` the one in texts of the server."""

    number: int
    word: str
    name: str
    dtype: DType


TYPES = (
    MsType(1, "bool", "kMSI_Bool", BOOL),
    MsType(2, "int8", "kMSI_Int8", INT8),
    MsType(3, "uint8", "kMSI_Uint8", UINT8),
    MsType(4, "int16", "kMSI_Int16", INT16),
    MsType(5, "uint16", "kMSI_Uint16", UINT16),
    MsType(6, "int32", "kMSI_Int32", INT32),
    MsType(7, "uint32", "kMSI_Uint32", UINT32),
    MsType(8, "int64", "kMSI_Int64", INT64),
    MsType(9, "uint64", "kMSI_Uint64", UINT64),
    MsType(10, "float16", "kMSI_Float16", FP16),
    MsType(11, "float32", "kMSI_Float32", FP32),
    MsType(12, "float64", "kMSI_Float64", FP64),
    MsType(13, "str", "kMSI_String", BYTES),
    MsType(14, "bytes", "kMSI_Bytes", BYTES),
)
BY_NUMBER = {known.number: known for known in TYPES}
BY_WORD = {known.word: known for known in TYPES}
STRING, RAW = BY_WORD["str"], BY_WORD["bytes"]

_BY_CODE = {known.dtype.code: known for known in TYPES if known.dtype is not BYTES}
_BY_CODE |= {BYTES.code: STRING, BF16.code: BY_WORD["float32"]}


def of(dtype: DType) -> MsType:
    """Return the type that stands for a model's: strings for BYTES, float32 for BF16.

    Every BF16 number is a FP32 number too; the protocol has no type of its own for it.
    """
    return _BY_CODE[dtype.code]
