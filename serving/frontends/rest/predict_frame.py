"""The commonest call of ``POST /predict``, kept as a frame: one row for one input of numbers.

Clients write the same body again and again, and only the numbers in it change: what stands before
and behind them is understood once. A body that begins and ends as one that was understood, with one
JSON value between, means the same with another value. The answer is written into a frame, too.
Whatever does not fit is left to ``predict_plain`` and ``predict_codec``, which know every form and
find the words for every mistake; all of them make equal requests and answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from serving.errors import ServingError
from serving.frontends.method import Describe, name_of
from serving.frontends.plan import InputPlan, Plan, plan_for
from serving.frontends.rest import plain_numbers
from serving.frontends.rest.predict_call import PredictCall
from serving.frontends.rest.predict_plain import LARGEST_BYTES, MEDIA
from serving.frontends.rest.predict_rows import Group
from serving.frontends.rest.wire import Headers, Reply, deadline_from, request_id
from serving.request import Description, InferRequest, InferResponse
from serving.tensor import BF16, Array, Dim, Tensor, element_count

_LONGEST_START = 512
_MOST_FRAMES = 256
_MOST_ELEMENTS = 4096
"""Of all outputs of a row together: more are better written on another thread."""


class Frame(NamedTuple):
    """What stands behind the numbers, what the whole means, and how its answer goes on.

    ``answer`` is what stands in the answer before each of the outputs. ``packer`` packs a row that
    is one list of known length, None for rows of other shapes.
    """

    end: bytes
    servable: str | None
    description: Description
    input: InputPlan
    answer: tuple[bytes, ...]
    packer: plain_numbers.Packer | None

    def array(self, value: object) -> Array | None:
        """Return a row's JSON value with the batch axis before it, None if it does not fit."""
        if self.packer is not None:
            return self.packer.pack(value)
        spec, dims = self.input.spec, self.input.row
        assert dims is not None
        flat = plain_numbers.flatten([value], dims)
        array = None if flat is None else plain_numbers.pack(flat[1], spec.dtype)
        return None if flat is None or array is None else array.reshape(flat[0])


class FramedCall(NamedTuple):
    """A call of one request of one row."""

    frame: Frame
    requests: tuple[InferRequest, ...]

    @property
    def encodes_fast(self) -> bool:
        """True: a frame is kept only for outputs that are few numbers."""
        return True

    def failed(self, index: int, error: ServingError) -> ServingError:  # noqa: ARG002
        """Return the error as it is: there is but one instance."""
        return error

    def encode(self, responses: Sequence[InferResponse]) -> Reply:
        """Write the answer; numbers that JSON does not have are left to ``PredictCall``."""
        body = b""
        for start, tensor in zip(self.frame.answer, responses[0].outputs, strict=True):
            array = tensor.array
            if array is None or len(array) != 1:
                return self._long(responses)
            body += start + orjson.dumps(array[0], option=orjson.OPT_SERIALIZE_NUMPY)
        return self._long(responses) if b"null" in body else Reply(body + b"}]}")

    def _long(self, responses: Sequence[InferResponse]) -> Reply:
        (request,) = self.requests
        group = Group((0,), request.inputs)
        return PredictCall(self.frame.description, self.requests, (group,), "").encode(responses)


_frames: dict[bytes, Frame] = {}


def find(body: bytes) -> tuple[Frame, int] | None:
    """Return the frame of a body, and where its numbers begin."""
    at = _start(body)
    frame = _frames.get(body[:at])
    return None if frame is None or not body.endswith(frame.end) else (frame, at)


def decode(body: bytes, headers: Headers, describe: Describe, now: float) -> FramedCall | None:
    """Return the call that a body is, if it fits a frame; raises what ``describe`` raises."""
    found = find(body)
    if found is None or len(body) > LARGEST_BYTES:
        return None
    frame, at = found
    text = body[at : len(body) - len(frame.end)]
    # The letters of true and false, which would pass for numbers.
    if b"t" in text or b"f" in text or headers.get(b"content-type") not in MEDIA:
        return None
    description = describe(frame.servable, None, None)
    if description is not frame.description:
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    array = frame.array(value)
    if array is None:
        return None
    spec = frame.input.spec
    tensor = Tensor(spec.name, spec.dtype, array.shape, array)
    request = InferRequest(
        description.servable,
        (tensor,),
        id=request_id(headers),
        deadline=deadline_from(headers, now),
        generation=description.generation,
    )
    return FramedCall(frame, (request,))


def remember(body: bytes, description: Description, rows: int) -> None:
    """Keep the frame of a body that ``predict_plain`` has read, if it is one row for one input.

    Called for each such body without a frame: those that can have none are told without parsing.
    """
    plan = plan_for(description)
    at, end = _start(body), body.rfind(b"]", 0, body.rfind(b"]")) + 1
    if rows != 1 or not 0 < at < end or not _is_plain(plan):
        return
    (item,) = plan.inputs
    found = orjson.loads(body)
    try:
        value = orjson.loads(body[at:end])
    except orjson.JSONDecodeError:
        return
    if value != found["instances"][0][item.spec.name]:
        return
    if len(_frames) >= _MOST_FRAMES:
        _frames.clear()
    servable = found.get("servable")
    answer, packer = _answer(description), _packer(item)
    _frames[body[:at]] = Frame(body[end:], servable, description, item, answer, packer)


def _packer(item: InputPlan) -> plain_numbers.Packer | None:
    """Return what packs a row that is one list of known length."""
    length = item.row[0] if item.row is not None and len(item.row) == 1 else None
    if not isinstance(length, int) or length < 1:
        return None
    return plain_numbers.packer((1, length), item.spec.dtype)


def _start(body: bytes) -> int:
    """Return where the second list of a body begins: its numbers; -1 if there is none."""
    return body.find(b"[", body.find(b"[", 0, _LONGEST_START) + 1, _LONGEST_START)


def _is_plain(plan: Plan) -> bool:
    """Return whether a row is one input and few numbers out, each a list or a number."""
    if len(plan.inputs) != 1 or not plan.outputs:
        return False
    elements = 0
    for output in plan.outputs.values():
        spec, row = output.spec, _row(output.spec.shape)
        if output.axis != 0 or row is None or spec.dtype.is_bytes or spec.dtype is BF16:
            return False
        elements += element_count(row)
    return elements <= _MOST_ELEMENTS


def _row(shape: tuple[Dim, ...] | None) -> tuple[int, ...] | None:
    """Return the sizes behind the batch axis, None if one of them varies."""
    sizes = tuple([dim for dim in (shape or ())[1:] if isinstance(dim, int) and dim > 0])
    return sizes if shape and len(sizes) == len(shape) - 1 else None


def _answer(description: Description) -> tuple[bytes, ...]:
    head = b'{"servable":%b,"version":%d,"method":%b,"instances":[{' % (
        orjson.dumps(description.servable),
        description.version,
        orjson.dumps(name_of(description)),
    )
    names = [orjson.dumps(spec.name) + b":" for spec in description.signature.outputs]
    return tuple([(b"," if index else head) + name for index, name in enumerate(names)])
