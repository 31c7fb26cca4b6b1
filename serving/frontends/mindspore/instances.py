"""Turn the given values of instances into requests: which inputs, how many bytes, which type.

MindSpore Serving compares bytes, not shapes: values with as many bytes as an instance of the
input has, and of its type, are that instance whatever their shape says. Where a size of the
input varies, bytes say nothing and the shape must fit. An instance goes without the batch axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from serving.errors import InvalidRequest, ServingError
from serving.frontends.mindspore import types
from serving.frontends.mindspore.target import Target
from serving.frontends.mindspore.types import MsType
from serving.frontends.plan import InputPlan, Plan, plan_for
from serving.frontends.shape_limits import checked
from serving.request import Description, InferRequest
from serving.tensor import (
    BF16,
    BYTES,
    FP32,
    Array,
    Dim,
    DType,
    Tensor,
    element_count,
    float32_to_bf16,
    shape_text,
)

MAX_INSTANCES = 16384
"""Instances of one request: more than queues take, and quickly gone through."""

V = TypeVar("V")


class OutOfRange(Exception):
    """A given number does not fit the type of the input."""


class Given(Protocol):
    """One value as its wire format gave it, not yet held against a model."""

    @property
    def type(self) -> MsType: ...  # noqa: D102
    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def nbytes(self) -> int:
        """Bytes of the numbers; 0 for a string."""
        ...

    @property
    def item(self) -> bytes | None:
        """The string, None for numbers."""
        ...

    def numbers(self, dtype: DType) -> Array | None:
        """Return the numbers in C order, None if they are of another type; raises OutOfRange."""
        ...


class Typed(NamedTuple):
    """A value whose wire format names its type."""

    type: MsType
    shape: tuple[int, ...]
    data: Array | None = None
    item: bytes | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers; 0 for a string."""
        return 0 if self.data is None else self.data.nbytes

    def numbers(self, dtype: DType) -> Array | None:
        """Return the numbers if they are of that very type."""
        return self.data if self.type.dtype is dtype else None


class Common(NamedTuple):
    """What all requests of one call have in common."""

    id: str
    deadline: float | None


def requests(
    target: Target,
    description: Description,
    instances: Sequence[Mapping[str, V]],
    read: Callable[[str, V], Given],
    common: Common,
) -> tuple[InferRequest | ServingError, ...]:
    """Return a request for each instance, or the error of one that the model cannot take.

    Raises InvalidRequest when there are no instances or too many, when an instance lacks an input,
    and what ``read`` raises; inputs that the model does not have are not looked at.
    """
    if not 0 < len(instances) <= MAX_INSTANCES:
        limit = f" exceeds the limit {MAX_INSTANCES}" if instances else " is 0"
        raise InvalidRequest(
            f"Request servable({target.name}) method({target.method}) , instances count{limit}"
        )
    plan = plan_for(description)
    given = [_given(target, plan, instance, read) for instance in instances]
    return tuple([_request(plan, values, target, common) for values in given])


def _given(
    target: Target, plan: Plan, instance: Mapping[str, V], read: Callable[[str, V], Given]
) -> list[Given]:
    values = []
    for item in plan.inputs:
        name = item.spec.name
        if name not in instance:
            raise InvalidRequest(
                f"Cannot find input {name} in instance input , "
                f"servable {target.name}, method {target.method}"
            )
        values.append(read(name, instance[name]))
    return values


def _request(
    plan: Plan, values: Sequence[Given], target: Target, common: Common
) -> InferRequest | ServingError:
    try:
        inputs = [
            _tensor(value, item, index)
            for index, (value, item) in enumerate(zip(values, plan.inputs, strict=True))
        ]
    except InvalidRequest as error:
        return error
    return InferRequest(
        plan.description.servable,
        tuple(inputs),
        version=target.version or None,
        generation=plan.description.generation,
        id=common.id,
        deadline=common.deadline,
    )


def _tensor(value: Given, item: InputPlan, index: int) -> Tensor:
    """Return an input of one row; raises InvalidRequest for a value that the model cannot take."""
    spec = item.spec
    if spec.dtype is BYTES:
        return _text(value, item, index)
    wanted = types.of(spec.dtype)
    try:
        array = value.numbers(wanted.dtype)
    except OutOfRange as error:
        raise InvalidRequest(
            f"Given model input {index} value {error} not in the range of "
            f"the data type {wanted.name} defined in model"
        ) from None
    row = _fixed(item.row)
    if row is not None:
        size, size_wanted = _nbytes(value, array), element_count(row) * wanted.dtype.itemsize
        if size != size_wanted:
            raise InvalidRequest(
                f"Given model input {index} size {size} "
                f"not match the size {size_wanted} defined in model"
            )
    if array is None:
        raise _other_type(value, wanted, index)
    shape = row if row is not None else _fitting(value.shape, item, index)
    if spec.dtype is BF16:
        assert array.dtype == FP32.numpy
        array = float32_to_bf16(array)
    shape = _one_row(shape, item.axis)
    return Tensor(spec.name, spec.dtype, shape, array.reshape(shape))


def _text(value: Given, item: InputPlan, index: int) -> Tensor:
    spec = item.spec
    if value.item is None:
        raise _other_type(value, types.of(spec.dtype), index)
    sizes = [1 if isinstance(dim, str) else dim for dim in item.row or ()]
    if element_count(sizes) != 1:
        raise InvalidRequest(
            f"Given model input {index} is one string, "
            f"not match the shape {shape_text(sizes)} defined in model"
        )
    return Tensor(spec.name, BYTES, _one_row(tuple(sizes), item.axis), items=[value.item])


def _nbytes(value: Given, array: Array | None) -> int:
    return value.nbytes if array is None else array.nbytes


def _other_type(value: Given, wanted: MsType, index: int) -> InvalidRequest:
    return InvalidRequest(
        f"Given model input {index} data type {value.type.name} "
        f"not match the data type {wanted.name} defined in model"
    )


def _fixed(row: tuple[Dim, ...] | None) -> tuple[int, ...] | None:
    """Return the sizes of an instance if none of them varies."""
    sizes = tuple([dim for dim in row or () if isinstance(dim, int)])
    return sizes if row is not None and len(sizes) == len(row) else None


def _fitting(shape: tuple[int, ...], item: InputPlan, index: int) -> tuple[int, ...]:
    """Return the given shape of an instance that has sizes which vary.

    A batch axis of size 1 may stand in it, as it may where bytes alone are compared.
    """
    shape = checked(shape, f"inputs.{item.spec.name}")
    axis, row = item.axis, item.row
    if row is None:
        return shape
    if axis is not None and len(shape) == len(row) + 1 and shape[axis] == 1:
        shape = shape[:axis] + shape[axis + 1 :]
    fits = len(shape) == len(row) and all(
        isinstance(dim, str) or size == dim for size, dim in zip(shape, row, strict=True)
    )
    if not fits:
        raise InvalidRequest(
            f"Given model input {index} shape {shape_text(shape)} "
            f"not match the shape {shape_text(row)} defined in model"
        )
    return shape


def _one_row(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    return shape if axis is None else (*shape[:axis], 1, *shape[axis:])


def flat(data: bytes | memoryview, dtype: DType) -> Array:
    """Return little-endian elements without their shape; the bytes must be whole elements."""
    assert dtype.numpy is not None
    return np.frombuffer(data, dtype.numpy)
