"""Outputs of one instance as its clients see them: without the batch axis, in their types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from serving.errors import InternalError
from serving.frontends.mindspore import types
from serving.frontends.mindspore.types import MsType
from serving.frontends.plan import OutputPlan, plan_for
from serving.request import Description, InferResponse
from serving.tensor import ANY, BF16, TEXT, Array, Tensor, bf16_to_float32


class Output(NamedTuple):
    """One output; ``array`` holds numbers, ``items`` strings in C order."""

    name: str
    type: MsType
    shape: tuple[int, ...]
    array: Array | None
    items: Sequence[bytes]


def of(response: InferResponse, description: Description) -> list[Output]:
    """Return the outputs of a request of one row; arrays may be views of the response."""
    known = plan_for(description).outputs
    return [_output(tensor, known[tensor.name]) for tensor in response.outputs]


def _output(tensor: Tensor, plan: OutputPlan) -> Output:
    shape, axis = tensor.shape, plan.axis
    if axis is not None:
        if axis >= len(shape) or shape[axis] != 1:
            raise InternalError(f"output {tensor.name!r} does not have the one row it should")
        shape = shape[:axis] + shape[axis + 1 :]
    if tensor.array is None:
        items = tensor.items or ()
        is_text = tensor.dtype is TEXT or (plan.spec.dtype is not ANY and all(map(_is_text, items)))
        kind = types.STRING if is_text else types.RAW
        return Output(tensor.name, kind, shape, None, items)
    array = bf16_to_float32(tensor.array) if tensor.dtype is BF16 else tensor.array
    return Output(tensor.name, types.of(tensor.dtype), shape, array.reshape(shape), ())


def _is_text(item: bytes) -> bool:
    try:
        item.decode()
    except UnicodeDecodeError:
        return False
    return True
