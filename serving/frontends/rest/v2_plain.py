"""The commonest JSON body of a V2 call, read in one go: short lists of plain numbers.

``{"id"?: "…", "inputs": [{"name", "shape", "datatype", "data"}, …], "outputs"?: [{"name"}, …]}``,
nothing else. Whatever is not exactly that, or holds any mistake, is left to ``v2_codec``, which
knows every form and finds the words for every mistake; both read the same from what both can read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from serving.frontends.plan import InputPlan, plan_for
from serving.frontends.rest import plain_numbers
from serving.request import Description
from serving.tensor import Tensor, element_count

LARGEST_BYTES = 16 * 1024
_NEVER = (b"true", b"false", b"\\")
"""Words that would pass for numbers, and escapes, which hide how many strings there are."""


class Plain(NamedTuple):
    """What a body said: inputs in signature order, wanted outputs (None: all), and its id."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] | None
    id: str


def read(body: bytes, description: Description) -> Plain | None:
    """Return what the body says, or None to read it the long way."""
    if len(body) > LARGEST_BYTES:
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
    raw, id, wanted = found.get("inputs"), found.get("id", ""), found.get("outputs", [])
    known = 1 + ("id" in found) + ("outputs" in found)
    if type(raw) is not list or type(id) is not str or type(wanted) is not list:
        return None
    # Every key once: a key given twice would add quotes that the counted ones do not explain.
    strings = known + ("id" in found) + 6 * len(raw) + 2 * len(wanted)
    if len(found) != known or body.count(b'"') != 2 * strings:
        return None
    inputs = _inputs(raw, description)
    outputs = _outputs(wanted, description)
    if inputs is None or outputs is None:
        return None
    return Plain(inputs, outputs or None, id)


def _inputs(raw: list[Any], description: Description) -> tuple[Tensor, ...] | None:
    plan = plan_for(description)
    found: dict[str, Tensor] = {}
    for item in raw:
        if type(item) is not dict or len(item) != 4:
            return None
        name = item.get("name")
        known = plan.by_name.get(name) if type(name) is str else None
        tensor = None if known is None else _tensor(item, known)
        if tensor is None:
            return None
        found[tensor.name] = tensor
    if not len(found) == len(raw) == len(plan.inputs):
        return None
    return tuple([found[known.spec.name] for known in plan.inputs])


def _tensor(item: dict[str, Any], plan: InputPlan) -> Tensor | None:
    spec, dims = plan.spec, plan.whole
    sizes, data = item.get("shape"), item.get("data")
    if item.get("datatype") != spec.dtype.name or type(sizes) is not list or type(data) is not list:
        return None
    if dims is None or len(sizes) != len(dims) or not data:
        return None
    for size, dim in zip(sizes, dims, strict=True):
        if type(size) is not int or size < 1 or (isinstance(dim, int) and 0 <= dim != size):
            return None
    shape = tuple(sizes)
    if type(data[0]) is list:
        flat = plain_numbers.flatten(data, shape[1:])
        if flat is None or flat[0] != shape:
            return None
        data = flat[1]
    elif len(data) != element_count(shape):
        return None
    array = plain_numbers.pack(data, spec.dtype)
    return None if array is None else Tensor(spec.name, spec.dtype, shape, array.reshape(shape))


def _outputs(raw: list[Any], description: Description) -> tuple[str, ...] | None:
    """Return the names of the wanted outputs, none for all; None to read them the long way."""
    known = [spec.name for spec in description.signature.outputs] if raw else []
    names: list[str] = []
    for item in raw:
        name = item.get("name") if type(item) is dict and len(item) == 1 else None
        if name not in known or name in names:
            return None
        names.append(name)
    return tuple(names)
