"""Turn instances into requests of many rows, and the rows of the answers back into instances.

An instance of a batched servable is one row: its tensors without their batch axis. Rows of
equal shapes (and equal shared inputs, those without a batch axis) run as one request of at
most ``max_batch_size`` rows; the rest run as further requests. Where there is no batch axis,
each instance is a request. An instance of a method always is: each fails by itself, and answers
may differ in type and shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from serving.errors import InternalError, InvalidRequest
from serving.frontends.plan import InputPlan, OutputPlan, Plan, plan_for
from serving.frontends.rest import json_answer
from serving.frontends.value import Value
from serving.request import Description, InferResponse
from serving.tensor import ANY, BYTES, Tensor, TensorSpec

MAX_REQUESTS = 1024
"""Requests that one call may turn into; what cannot be batched is claimed one by one."""

Row = tuple[Value, ...]


class Group(NamedTuple):
    """Instances that run as one request: their places in the call, and the request's inputs."""

    places: tuple[int, ...]
    inputs: tuple[Tensor, ...]


def group(rows: Sequence[Row], plan: Plan) -> tuple[Group, ...]:
    """Return the requests for the rows (each in signature order), all places covered once."""
    description = plan.description
    if description.method or not description.batch.batched:
        groups = [[i] for i in range(len(rows))]
    else:
        groups = _alike(rows, plan, description.max_batch_size) if len(rows) > 1 else [[0]]
    if len(groups) > MAX_REQUESTS:
        raise InvalidRequest(
            "the instances cannot be batched and are too many to run one by one in one call",
            code="too_many_instances",
            where="instances",
            expected=f"at most {MAX_REQUESTS} requests",
            given=str(len(groups)),
            fix="send them in several calls",
        )
    return tuple([_group(rows, places, plan) for places in groups])


def _group(rows: Sequence[Row], places: list[int], plan: Plan) -> Group:
    inputs = [
        _stack(item, [rows[place][index] for place in places])
        for index, item in enumerate(plan.inputs)
    ]
    return Group(tuple(places), tuple(inputs))


def _alike(rows: Sequence[Row], plan: Plan, most: int) -> list[list[int]]:
    """Return the places of rows that may share a request, at most ``most`` together."""
    shared = [i for i, item in enumerate(plan.inputs) if item.axis is None] if plan.shares else []
    found: dict[Any, list[int]] = {}
    for place, row in enumerate(rows):
        key: Any = tuple([value.shape for value in row])
        if shared:
            key = (key, tuple([_content(row[i]) for i in shared]))
        found.setdefault(key, []).append(place)
    step = most if most > 0 else len(rows)
    return [
        places[start : start + step]
        for places in found.values()
        for start in range(0, len(places), step)
    ]


def _content(value: Value) -> Any:
    return tuple(value.items or ()) if value.array is None else value.array.tobytes()


def _stack(item: InputPlan, values: list[Value]) -> Tensor:
    """Return one input of a request: its rows along the batch axis, or what they share."""
    spec, axis, first = item.spec, item.axis, values[0]
    dtype = first.dtype or spec.dtype
    if axis is None:
        return Tensor(spec.name, dtype, first.shape, first.array, first.items)
    shape = (*first.shape[:axis], len(values), *first.shape[axis:])
    if first.array is None:
        return Tensor(spec.name, dtype, shape, None, _stack_items(values, axis))
    if len(values) == 1:
        return Tensor(spec.name, dtype, shape, first.array.reshape(shape))
    arrays = [value.array for value in values if value.array is not None]
    stacked = np.ascontiguousarray(np.stack(arrays, axis))
    return Tensor(spec.name, dtype, shape, stacked)


def _stack_items(values: list[Value], axis: int) -> list[bytes]:
    if axis == 0:
        return [item for value in values for item in value.items or ()]
    stacked = np.stack([objects(value.items or (), value.shape) for value in values], axis)
    return list(stacked.reshape(-1))


def objects(items: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """Return an array of Python objects; numpy's own constructor would cut NULs off bytes."""
    flat = np.empty(len(items), dtype=object)
    flat[:] = items
    return flat.reshape(shape)


def split(
    groups: Sequence[Group], responses: Sequence[InferResponse], description: Description
) -> list[dict[str, Any]]:
    """Return one object per instance, ``{output: JSON value}``, in the order of the call."""
    outputs = plan_for(description).outputs
    if len(groups) == 1:  # nearly always: its places are all places, in order
        return _rows_of(responses[0], len(groups[0].places), outputs)
    answers: list[dict[str, Any]] = [{} for _ in range(sum(len(g.places) for g in groups))]
    for item, response in zip(groups, responses, strict=True):
        rows = _rows_of(response, len(item.places), outputs)
        for place, row in zip(item.places, rows, strict=True):
            answers[place] = row
    return answers


def _rows_of(
    response: InferResponse, rows: int, outputs: dict[str, OutputPlan]
) -> list[dict[str, Any]]:
    names = [tensor.name for tensor in response.outputs]
    columns = [_instance_values(tensor, rows, outputs) for tensor in response.outputs]
    if len(names) == 1:
        name = names[0]
        return [{name: value} for value in columns[0]]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _instance_values(tensor: Tensor, rows: int, outputs: dict[str, OutputPlan]) -> Sequence[Any]:
    plan = outputs.get(tensor.name)
    if plan is None:
        raise InternalError(f"output {tensor.name!r} is not in the signature")
    spec, axis = plan.spec, plan.axis
    if axis is None:
        return [whole(tensor, spec)] * rows
    if axis >= len(tensor.shape) or tensor.shape[axis] != rows:
        raise InternalError(f"output {tensor.name!r} does not have a row for each instance")
    if tensor.array is not None:
        array = json_answer.numbers(tensor)
        if axis:
            array = np.ascontiguousarray(np.moveaxis(array, axis, 0))
        if array.ndim > 1 and array.size and array.dtype.kind != "O":
            return list(array)  # what plain() would make of them
        return [json_answer.plain(row) for row in array]
    write = writer(tensor, spec)
    elements = [write(item) for item in tensor.items or ()]
    if axis:
        elements = list(np.moveaxis(objects(elements, tensor.shape), axis, 0).reshape(-1))
    row_shape = tensor.shape[:axis] + tensor.shape[axis + 1 :]
    size = len(elements) // rows
    return [json_answer.nested(elements[i * size : (i + 1) * size], row_shape) for i in range(rows)]


def writer(tensor: Tensor, spec: TensorSpec) -> Callable[[bytes], Any]:
    """Return what writes a string: a model's as what it looks like, a method's as what it is."""
    if spec.json:
        return json_answer.document
    if spec.dtype is ANY and tensor.dtype is BYTES:
        return json_answer.base64
    return json_answer.text


def whole(tensor: Tensor, spec: TensorSpec) -> Any:
    """Return a whole tensor as a JSON value, the batch axis included."""
    if tensor.array is not None:
        return json_answer.plain(json_answer.numbers(tensor))
    write = writer(tensor, spec)
    return json_answer.nested([write(item) for item in tensor.items or ()], tensor.shape)
