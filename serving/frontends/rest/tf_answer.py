"""Write outputs as TensorFlow Serving's REST API does: ``predictions`` by row, ``outputs`` whole.

One output stands without its name; several are objects. Strings of an output whose name ends with
``_bytes`` are ``{"b64": ...}``, and so are those that are no UTF-8. Source: "Predict API" in
g3doc/api_rest.md of its repository.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from serving.errors import InternalError, InvalidRequest
from serving.frontends.plan import OutputPlan, plan_for
from serving.frontends.rest import bare_numbers, json_answer, predict_rows
from serving.frontends.rest.predict_rows import Group
from serving.frontends.tensorflow.types import BYTES_SUFFIX
from serving.request import Description, InferResponse
from serving.tensor import Tensor, TensorSpec

Outputs = dict[str, OutputPlan]


def columns(response: InferResponse, description: Description) -> bytes:
    """Return the body that answers ``inputs``."""
    known = plan_for(description).outputs
    texts = [(t.name, _whole(t, _known(t, known).spec)) for t in response.outputs]
    if len(texts) == 1:
        return b'{"outputs":%b}' % texts[0][1]
    return b'{"outputs":%b}' % _object(texts)


def predictions(
    groups: Sequence[Group],
    responses: Sequence[InferResponse],
    description: Description,
    *,
    stacked: bool,
) -> bytes:
    """Return the body that answers ``instances``, in their order.

    With ``stacked`` they were one tensor, of which nothing is known: axis 0 of the outputs counts.
    """
    known = plan_for(description).outputs
    if len(groups) == 1:  # nearly always: its places are all places, in order
        rows = _row_count(responses[0]) if stacked else len(groups[0].places)
        return _list(_rows(responses[0], rows, known))
    answers: dict[int, bytes] = {}
    for group, response in zip(groups, responses, strict=True):
        found = _rows(response, len(group.places), known)
        answers.update(zip(group.places, found, strict=True))
    return _list([answers[place] for place in range(len(answers))])


def _list(rows: Sequence[bytes]) -> bytes:
    return b'{"predictions":[%b]}' % b",".join(rows)


def _row_count(response: InferResponse) -> int:
    """Return what all outputs have on axis 0; raises InvalidRequest if they differ."""
    sizes = {tensor.shape[:1] for tensor in response.outputs}
    if len(sizes) == 1 and (size := sizes.pop()):
        return size[0]
    raise InvalidRequest(
        "the outputs of this servable have no row for each instance",
        code="uneven_instances",
        where="instances",
        fix="send whole tensors in 'inputs' and read 'outputs'",
    )


def _rows(response: InferResponse, rows: int, known: Outputs) -> list[bytes]:
    found = [_row_texts(tensor, _known(tensor, known), rows) for tensor in response.outputs]
    if len(found) == 1:
        return found[0]
    names = [tensor.name for tensor in response.outputs]
    return [_object(zip(names, row, strict=True)) for row in zip(*found, strict=True)]


def _row_texts(tensor: Tensor, plan: OutputPlan, rows: int) -> list[bytes]:
    spec, axis = plan.spec, plan.axis
    if axis is None:
        return [_whole(tensor, spec)] * rows
    if axis >= len(tensor.shape) or tensor.shape[axis] != rows:
        raise InternalError(f"output {tensor.name!r} does not have a row for each instance")
    if tensor.array is not None:
        array = bare_numbers.numbers(tensor)
        return bare_numbers.rows(np.ascontiguousarray(np.moveaxis(array, axis, 0)))
    elements = _elements(tensor, spec)
    if axis:
        moved = np.moveaxis(predict_rows.objects(elements, tensor.shape), axis, 0)
        elements = list(moved.reshape(-1))
    shape = tensor.shape[:axis] + tensor.shape[axis + 1 :]
    size = len(elements) // max(rows, 1)
    return [
        json_answer.dumps(json_answer.nested(elements[row * size : (row + 1) * size], shape))
        for row in range(rows)
    ]


def _whole(tensor: Tensor, spec: TensorSpec) -> bytes:
    if tensor.array is not None:
        return bare_numbers.text(bare_numbers.numbers(tensor))
    return json_answer.dumps(json_answer.nested(_elements(tensor, spec), tensor.shape))


def _elements(tensor: Tensor, spec: TensorSpec) -> list[Any]:
    write: Callable[[bytes], Any] = predict_rows.writer(tensor, spec)
    if tensor.name.endswith(BYTES_SUFFIX):
        write = json_answer.base64
    return [write(item) for item in tensor.items or ()]


def _known(tensor: Tensor, known: Outputs) -> OutputPlan:
    plan = known.get(tensor.name)
    if plan is None:
        raise InternalError(f"output {tensor.name!r} is not in the signature")
    return plan


def _object(members: Any) -> bytes:
    parts = [b"%b:%b" % (json_answer.dumps(name), text) for name, text in members]
    return b"{%b}" % b",".join(parts)
