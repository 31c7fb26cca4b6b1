"""Whether a value is one instance of a model's input, by MindSpore Serving's rules; pure.

It compares bytes, not shapes: numbers of the input's type, and as many bytes as an instance of it
has, are that instance whatever their shape says. Where a size of the input varies, bytes say
nothing and the shape must fit. Its clients match on the texts, so these are part of the rules.
"""

from __future__ import annotations

from serving.errors import InvalidRequest
from serving.tensor import BF16, BYTES, FP32, TEXT, Dim, DType, element_count, shape_text

Dims = tuple[Dim, ...] | None
"""Sizes of one instance, the batch axis left out; a string varies; None is an unknown rank."""

_NAMES = {"BOOL": "Bool", "BYTES": "Bytes", "TEXT": "String", "BF16": "Float32"}


def type_name(dtype: DType) -> str:
    """Return MindSpore Serving's name of a type, as its texts have it."""
    name = dtype.name
    if name not in _NAMES:
        name = name.replace("UINT", "Uint").replace("INT", "Int").replace("FP", "Float")
    return f"kMSI_{_NAMES.get(name, name)}"


def fixed_sizes(row: Dims) -> tuple[int, ...] | None:
    """Return the sizes of an instance if none of them varies."""
    sizes = tuple([dim for dim in row or () if isinstance(dim, int)])
    return sizes if row is not None and len(sizes) == len(row) else None


def check_size(index: int, row: Dims, dtype: DType, nbytes: int) -> tuple[int, ...] | None:
    """Return the sizes of an instance that are fixed, once a value's bytes agree; None: they vary.

    ``dtype`` is the input's, ``index`` its place. Raises InvalidRequest.
    """
    sizes = fixed_sizes(row)
    if sizes is None:
        return None
    # BF16 has no type of its own in MindSpore Serving: its values come as FP32.
    wanted = element_count(sizes) * (FP32 if dtype is BF16 else dtype).itemsize
    if nbytes != wanted:
        raise InvalidRequest(
            f"Given model input {index} size {nbytes} not match the size {wanted} defined in model"
        )
    return sizes


def other_type(index: int, given: str, wanted: DType) -> InvalidRequest:
    """Return the error for a value of another type, by its name, than the input's."""
    return InvalidRequest(
        f"Given model input {index} data type {given} "
        f"not match the data type {type_name(wanted)} defined in model"
    )


def check_shape(index: int, row: Dims, axis: int | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of an instance, where sizes vary.

    A batch axis of size 1 may stand in it, as it may where bytes alone are compared. Raises
    InvalidRequest for one that does not fit.
    """
    if row is None:
        return shape
    if axis is not None and len(shape) == len(row) + 1 and shape[axis] == 1:
        shape = shape[:axis] + shape[axis + 1 :]
    fits = len(shape) == len(row) and all(
        isinstance(dim, str) or dim < 0 or size == dim for size, dim in zip(shape, row, strict=True)
    )
    if not fits:
        raise InvalidRequest(
            f"Given model input {index} shape {shape_text(shape)} "
            f"not match the shape {shape_text(row)} defined in model"
        )
    return shape


def is_text(dtype: DType) -> bool:
    """Return whether values of a type are strings."""
    return dtype is BYTES or dtype is TEXT


def string_sizes(index: int, row: Dims) -> tuple[int, ...]:
    """Return the shape of an input that takes one string; raises InvalidRequest if it is more."""
    sizes = tuple([1 if isinstance(dim, str) else dim for dim in row or ()])
    if element_count(sizes) != 1:
        raise InvalidRequest(
            f"Given model input {index} is one string, "
            f"not match the shape {shape_text(sizes)} defined in model"
        )
    return sizes
