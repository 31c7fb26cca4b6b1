"""Requests of several instances, cut into the values of each, and answers put together again.

Axis 0 of every tensor counts instances. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.errors import ExecutionFailed, InvalidRequest
from serving.scheduling.pipeline.port import Values
from serving.tensor import Tensor, element_count, shape_text


def count(inputs: Sequence[Tensor]) -> int:
    """Return how many instances a request brings; raises InvalidRequest if inputs disagree."""
    if not inputs:
        return 1
    first = inputs[0]
    for tensor in inputs:
        if not tensor.shape:
            raise InvalidRequest(
                f"input {tensor.name!r} has no axis that counts instances",
                code="wrong_rank",
                where=f"inputs.{tensor.name}",
                expected="axis 0 to count instances: [1] for one number",
                given="shape []",
            )
        if tensor.shape[0] != first.shape[0]:
            raise InvalidRequest(
                f"inputs {first.name!r} and {tensor.name!r} bring different numbers of instances",
                code="wrong_shape",
                where=f"inputs.{tensor.name}",
                expected=f"{first.shape[0]} on axis 0, as in {first.name!r}",
                given=f"shape {shape_text(tensor.shape)}",
            )
    if not first.shape[0]:
        raise InvalidRequest(
            "the request holds no instances",
            code="empty_batch",
            where=f"inputs.{first.name}",
            expected="at least one instance",
            given="0",
        )
    return first.shape[0]


def cut(inputs: Sequence[Tensor], index: int) -> Values:
    """Return the values of one instance; they share the request's memory."""
    return tuple([_one(tensor, index) for tensor in inputs])


def _one(tensor: Tensor, index: int) -> Tensor:
    shape = tensor.shape[1:]
    if tensor.array is not None:
        # A slice, for the element of a vector would be a number and no array.
        return Tensor("", tensor.dtype, shape, tensor.array[index : index + 1].reshape(shape))
    assert tensor.items is not None
    step = element_count(shape)
    items = tensor.items[index * step : (index + 1) * step]
    return Tensor("", tensor.dtype, shape, items=items)


def join(names: Sequence[str], answers: Sequence[Values]) -> tuple[Tensor, ...]:
    """Return the outputs of all instances, each as one tensor; a single instance is not copied.

    Raises ExecutionFailed when they differ in type or shape.
    """
    columns = zip(*answers, strict=True)
    return tuple([_joined(n, column) for n, column in zip(names, columns, strict=True)])


def _joined(name: str, tensors: Sequence[Tensor]) -> Tensor:
    first = tensors[0]
    for index, tensor in enumerate(tensors):
        if tensor.dtype is not first.dtype or tensor.shape != first.shape:
            raise ExecutionFailed(
                f"output {name!r} is {_kind(first)} for instance 0 and {_kind(tensor)} for "
                f"instance {index}, so that they cannot be one tensor",
                code="uneven_instances",
                where=f"instances[{index}]",
                fix="send these instances in requests of their own",
            )
    shape = (len(tensors), *first.shape)
    if first.array is None:
        items = [item for tensor in tensors for item in tensor.items or ()]
        return Tensor(name, first.dtype, shape, items=items)
    if len(tensors) == 1:
        return Tensor(name, first.dtype, shape, first.array.reshape(shape))
    stacked = np.concatenate([_array(tensor).reshape(-1) for tensor in tensors])
    return Tensor(name, first.dtype, shape, stacked.reshape(shape))


def _kind(tensor: Tensor) -> str:
    return f"{tensor.dtype.name}{shape_text(tensor.shape)}"


def _array(tensor: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    assert tensor.array is not None
    return tensor.array
