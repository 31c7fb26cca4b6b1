"""Turns the TensorProto of both schemas into types and arrays, checking every size."""

from __future__ import annotations

from math import prod
from typing import Iterable, TypeAlias

import numpy as np

from serving.formats.mindir.broken import broken, unsupported
from serving.formats.mindir.graph import widened
from serving.formats.mindir.stubs import mindir_pb2
from serving.formats.mindir.types import BY_DATA_TYPE, MAX_RANK, TensorType
from serving.tensor import Array, DType

TensorProto: TypeAlias = mindir_pb2.TensorProto | mindir_pb2.LegacyTensorProto
_MAX_LENGTH = 1 << 48
_UNKNOWN_RANK = (-2,)


def dtype_of(number: int, what: str) -> DType:
    """Return the element type of a ``data_type``; raises ``LoadError`` naming ``what``."""
    found = BY_DATA_TYPE.get(number)
    if found is None:
        raise unsupported(f"{what} has the element type {number}, which is not known here")
    return found


def shape_of(dims: Iterable[int], what: str) -> tuple[int, ...] | None:
    """Return checked lengths, -1 where one varies; ``None`` for an unknown rank."""
    shape = tuple(int(n) for n in dims)
    if shape == _UNKNOWN_RANK:
        return None
    if len(shape) > MAX_RANK or any(not -1 <= n <= _MAX_LENGTH for n in shape):
        raise broken(f"{what} has an impossible shape")
    return shape


def tensor_type(tensor: TensorProto, what: str) -> TensorType:
    """Return the type that a tensor states."""
    return TensorType(dtype_of(tensor.data_type, what), shape_of(tensor.dims, what))


def check_size(stated: TensorType, size: int, what: str) -> None:
    """Raise ``LoadError`` unless ``size`` bytes are exactly the elements of a type."""
    shape = stated.shape
    if shape is None or any(n < 0 for n in shape):
        raise broken(f"{what} holds data without a fixed shape")
    if prod(shape) * stated.dtype.itemsize != size:
        raise broken(
            f"{what} is {stated} and should have {prod(shape) * stated.dtype.itemsize} bytes of "
            f"data, but has {size}"
        )


def array_of(tensor: TensorProto, what: str) -> Array:
    """Return the elements of a small tensor, in the type that they run in."""
    stated = tensor_type(tensor, what)
    raw = tensor.raw_data or _listed(tensor, stated.dtype)
    check_size(stated, len(raw), what)
    found = np.frombuffer(raw, stated.dtype.numpy).reshape(stated.shape or ())
    return widened(found) if stated.dtype.name == "BF16" else found


def _listed(tensor: TensorProto, dtype: DType) -> bytes:
    """Return the raw form of elements that are written as numbers (MindSpore 1.0 does so)."""
    listed: list[int] | list[float] = [
        *tensor.float_data, *tensor.int32_data, *tensor.int64_data, *tensor.double_data,
        *tensor.uint64_data,
    ]  # fmt: skip
    try:
        if dtype.name in ("FP16", "BF16"):
            return np.array(listed, "<u2").tobytes()
        return np.array(listed, dtype.numpy).tobytes()
    except (OverflowError, ValueError) as error:
        raise broken(f"a constant holds a number that is no {dtype.name}") from error
