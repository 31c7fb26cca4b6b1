"""Turn the given values of instances into requests: which inputs, how many bytes, which type.

What a model takes ``serving.model_value`` knows. An instance goes without the batch axis. A method
takes values of any type: they go on as they came, and its stages have the last word.
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
from serving.model_value import check_shape, check_size, other_type, string_sizes
from serving.request import Description, InferRequest
from serving.tensor import (
    BF16,
    BYTES,
    FP32,
    TEXT,
    Array,
    DType,
    Tensor,
    float32_to_bf16,
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
    method = plan.description.method
    read = _open if method else _tensor
    try:
        inputs = [
            read(value, item, index)
            for index, (value, item) in enumerate(zip(values, plan.inputs, strict=True))
        ]
    except InvalidRequest as error:
        return error
    return request(plan.description, tuple(inputs), target, common)


def request(
    description: Description, inputs: tuple[Tensor, ...], target: Target, common: Common
) -> InferRequest:
    """Return the request of one instance, for inputs that the model or method takes."""
    return InferRequest(
        description.servable,
        inputs,
        target.version or None,
        description.method or None,
        id=common.id,
        deadline=common.deadline,
        generation=description.generation,
    )


def _open(value: Given, item: InputPlan, index: int) -> Tensor:
    """Return a method's input for one instance, in its own type and shape.

    Where it goes straight into a model, numbers without a type of their own take the model's.
    """
    spec = item.spec
    shape = checked((1, *value.shape), f"inputs.{spec.name}")
    if value.item is not None:
        dtype = TEXT if value.type is types.STRING else BYTES
        return Tensor(spec.name, dtype, shape, items=[value.item])
    array, dtype = None, spec.dtype
    if dtype.numpy is not None:
        array = _numbers(value, types.of(dtype), index)
    if array is None:
        kind = value.type
        dtype, array = kind.dtype, _numbers(value, kind, index)
        assert array is not None
    elif dtype is BF16:
        array = float32_to_bf16(array)
    return Tensor(spec.name, dtype, shape, array.reshape(shape))


def _numbers(value: Given, wanted: MsType, index: int) -> Array | None:
    try:
        return value.numbers(wanted.dtype)
    except OutOfRange as error:
        raise InvalidRequest(
            f"Given model input {index} value {error} not in the range of "
            f"the data type {wanted.name} defined in model"
        ) from None


def _tensor(value: Given, item: InputPlan, index: int) -> Tensor:
    """Return an input of one row; raises InvalidRequest for a value that the model cannot take."""
    spec = item.spec
    if spec.dtype is BYTES:
        return _text(value, item, index)
    array = _numbers(value, types.of(spec.dtype), index)
    nbytes = value.nbytes if array is None else array.nbytes
    shape = check_size(index, item.row, spec.dtype, nbytes)
    if array is None:
        raise other_type(index, value.type.name, spec.dtype)
    if shape is None:
        given = checked(value.shape, f"inputs.{spec.name}")
        shape = check_shape(index, item.row, item.axis, given)
    if spec.dtype is BF16:
        assert array.dtype == FP32.numpy
        array = float32_to_bf16(array)
    shape = _one_row(shape, item.axis)
    return Tensor(spec.name, spec.dtype, shape, array.reshape(shape))


def _text(value: Given, item: InputPlan, index: int) -> Tensor:
    if value.item is None:
        raise other_type(index, value.type.name, TEXT)
    shape = _one_row(string_sizes(index, item.row), item.axis)
    return Tensor(item.spec.name, BYTES, shape, items=[value.item])


def _one_row(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    return shape if axis is None else (*shape[:axis], 1, *shape[axis:])


def flat(data: bytes | memoryview, dtype: DType) -> Array:
    """Return little-endian elements without their shape; the bytes must be whole elements."""
    assert dtype.numpy is not None
    return np.frombuffer(data, dtype.numpy)
