"""The commonest body of ``POST /predict``, read in one go: a few rows of plain numbers.

``{"servable"?: "…", "instances": [{input: numbers, …}, …]}``, nothing else, and numbers only; where
there is one input, a row may be its numbers alone.
Whatever is not exactly that, or holds any mistake, is left to ``predict_codec``, which knows every
form and finds the words for every mistake; both give equal requests for what both can read.
"""

from __future__ import annotations

from typing import Any

import orjson

from serving.frontends.method import Describe
from serving.frontends.plan import InputPlan, Plan, plan_for
from serving.frontends.rest import names, plain_numbers
from serving.frontends.rest.wire import Headers
from serving.request import Description
from serving.tensor import Tensor

LARGEST_BYTES = 16 * 1024
MEDIA = frozenset({None, b"application/json", b"application/x-www-form-urlencoded"})
_NEVER = (b"true", b"false", b"\\")
"""Words that would pass for numbers, and escapes, which hide how many strings there are."""


def decode(
    body: bytes, headers: Headers, describe: Describe
) -> tuple[Description, tuple[Tensor, ...]] | None:
    """Return the description and the stacked inputs, or None to read the body the long way.

    Raises what ``describe`` raises.
    """
    if len(body) > LARGEST_BYTES or headers.get(b"content-type") not in MEDIA:
        return None
    for word in _NEVER:
        if word in body:
            return None
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if type(found) is not dict:
        return None
    instances, servable = found.get("instances"), found.get("servable")
    if type(instances) is not list or not instances or len(found) != 1 + (servable is not None):
        return None
    if servable is not None:
        if type(servable) is not str:
            return None
        names.check(servable, "servable")
    plan = plan_for(describe(servable, None, None))
    # Every key once: a key given twice would add quotes that the counted ones do not explain.
    named = 0 if _are_bare(instances) else len(plan.inputs)
    strings = 1 + 2 * (servable is not None) + len(instances) * named
    if body.count(b'"') != 2 * strings:
        return None
    inputs = _inputs(instances, plan)
    return None if inputs is None else (plan.description, inputs)


def _inputs(instances: list[Any], plan: Plan) -> tuple[Tensor, ...] | None:
    description = plan.description
    if not description.batch.batched or len(instances) > description.max_batch_size:
        return None
    if description.method:
        return None
    width = len(plan.inputs)
    if width == 1 and _are_bare(instances):
        tensor = _stacked(instances, plan.inputs[0])
        return None if tensor is None else (tensor,)
    for row in instances:
        if type(row) is not dict or len(row) != width:
            return None
    tensors = []
    for item in plan.inputs:
        name = item.spec.name
        try:
            rows = [row[name] for row in instances]
        except KeyError:
            return None
        tensor = _stacked(rows, item)
        if tensor is None:
            return None
        tensors.append(tensor)
    return tuple(tensors)


def _are_bare(instances: list[Any]) -> bool:
    """Return whether rows are values without a name; one that is otherwise will not be packed."""
    return type(instances[0]) is not dict


def _stacked(rows: list[Any], item: InputPlan) -> Tensor | None:
    spec = item.spec
    if item.axis != 0 or item.row is None:
        return None
    flat = plain_numbers.flatten(rows, item.row)
    if flat is None:
        return None
    shape, numbers = flat
    array = plain_numbers.pack(numbers, spec.dtype)
    return None if array is None else Tensor(spec.name, spec.dtype, shape, array.reshape(shape))
