"""Decide whether given tensors are what inputs ask for, and outputs known; say what differs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.errors import InvalidRequest, did_you_mean, listing
from serving.frontends.plan import Dims
from serving.frontends.value import Value
from serving.tensor import BY_NAME, Dim, DType, TensorSpec, shape_text


def check_shape(shape: tuple[int, ...], dims: Dims, where: str, axis: int | None = None) -> None:
    """Raise InvalidRequest unless the shape is as declared; ``axis`` counts the rows, if one does.

    Its code is ``wrong_rank`` for another number of axes, ``wrong_shape`` for other sizes.
    """
    if dims is None or shape == dims:
        return
    if len(shape) != len(dims):
        raise InvalidRequest(
            "the tensor has the wrong number of axes",
            code="wrong_rank",
            where=where,
            expected=_axes(dims),
            given=_axes(shape),
            fix=_one_row(shape, dims, axis),
        )
    for index, (size, dim) in enumerate(zip(shape, dims, strict=True)):
        if size != dim and isinstance(dim, int):
            raise InvalidRequest(
                f"axis {index} of the tensor has the wrong size",
                code="wrong_shape",
                where=where,
                expected=f"{dim} in {shape_text(dims)}",
                given=f"{size} in {shape_text(shape)}",
            )


def _axes(dims: tuple[Dim, ...]) -> str:
    if not dims:
        return "no axes: one value"
    return f"{len(dims)} {'axis' if len(dims) == 1 else 'axes'} {shape_text(dims)}"


def _one_row(shape: tuple[int, ...], dims: tuple[Dim, ...], axis: int | None) -> str:
    """Return what helps who sent one row without the axis that counts them, or nothing."""
    if axis is None or len(shape) != len(dims) - 1:
        return ""
    whole = shape_text((*shape[:axis], 1, *shape[axis:]))
    return f"axis {axis} counts the rows: one row has the shape {whole}"


def adapt(value: Value, dims: Dims, where: str, axis: int | None = None) -> Value:
    """Return the value with exactly the declared rank, or raise InvalidRequest.

    JSON leaves two things open, settled here: an empty list says nothing of the axes below it,
    and a bare scalar is taken where the declared shape holds exactly one element.
    """
    shape = value.shape
    if shape == dims:
        return value
    if dims is not None and len(shape) < len(dims):
        if shape and shape[-1] == 0:
            rest = dims[len(shape) :]
            value = _reshaped(value, shape + tuple(d if isinstance(d, int) else 0 for d in rest))
        elif not shape and all(d == 1 for d in dims):
            value = _reshaped(value, (1,) * len(dims))
    check_shape(value.shape, dims, where, axis)
    return value


def _reshaped(value: Value, shape: tuple[int, ...]) -> Value:
    array = None if value.array is None else np.reshape(value.array, shape)
    return Value(shape, array, value.items)


def check_dtype(given: str, spec: TensorSpec, where: str) -> None:
    """Raise InvalidRequest (``wrong_dtype``) unless a dtype name is the declared one."""
    if given != spec.dtype.name:
        raise InvalidRequest(
            "the tensor has the wrong dtype",
            code="wrong_dtype",
            where=where,
            expected=spec.dtype.name,
            given=given[:40],
        )


def named_dtype(given: str, where: str) -> DType:
    """Return the dtype that a client names for an input of any type; raises InvalidRequest."""
    dtype = BY_NAME.get(given)
    if dtype is None:
        raise InvalidRequest(
            f"{given[:40]!r} is no dtype",
            code="unknown_dtype",
            where=where,
            expected=f"one of {listing(BY_NAME, len(BY_NAME))}",
            fix=did_you_mean(given[:40].upper(), BY_NAME),
        )
    return dtype


def check_text(items: Sequence[bytes], where: str) -> None:
    """Raise InvalidRequest unless strings that a client calls text are UTF-8."""
    for index, item in enumerate(items):
        try:
            item.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(
                "a string is not UTF-8",
                code="not_text",
                where=where,
                given=f"other bytes in element {index}",
                fix="send what is no text as plain BYTES",
            ) from None


def check_wanted(name: str, earlier: Sequence[str], known: Sequence[str], where: str) -> None:
    """Raise InvalidRequest for an output that is asked for twice, or that there is not."""
    if name in earlier:
        raise InvalidRequest(
            f"output {name!r} is asked for twice", code="duplicate_output", where=where
        )
    if name not in known:
        raise InvalidRequest(
            f"output {name[:80]!r} is not known",
            code="unknown_output",
            where=where,
            expected=listing(known),
            fix=did_you_mean(name[:80], known),
        )


def check_names(given: set[str], specs: tuple[TensorSpec, ...], where: str) -> None:
    """Raise InvalidRequest for an unknown input, else for a missing one."""
    known = [spec.name for spec in specs]
    for name in given:
        if name not in known:
            raise InvalidRequest(
                f"unknown input {name[:80]!r}",
                code="unknown_input",
                where=where,
                expected=listing(known),
                fix=did_you_mean(name[:80], known),
            )
    missing = [spec for spec in specs if spec.name not in given]
    if missing:
        raise InvalidRequest(
            f"input {missing[0].name!r} is missing",
            code="missing_input",
            where=where,
            expected=listing(known),
            given=listing(sorted(given)) or "none",
            fix=f"add {missing[0].name!r}, {missing[0].text()}",
        )
