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
from serving.frontends.plan import InputPlan, plan_for
from serving.frontends.rest import one_row, plain_numbers
from serving.frontends.rest.predict_call import PredictCall
from serving.frontends.rest.predict_plain import LARGEST_BYTES, MEDIA
from serving.frontends.rest.predict_rows import Group
from serving.frontends.rest.wire import Headers, Reply, deadline_from, request_id
from serving.request import Description, InferRequest, InferResponse
from serving.tensor import Array, Tensor

_MOST_FRAMES = 2048


class Frame(NamedTuple):
    """What stands behind the numbers, what the whole means, and how its answer goes on.

    ``answer`` is what stands in the answer before each of the outputs. ``packer`` packs rows that
    are lists of known lengths, None where they vary, or a row is one number.
    """

    end: bytes
    servable: str | None
    description: Description
    input: InputPlan
    answer: tuple[bytes, ...]
    packer: plain_numbers.Packer | None

    def array(self, text: bytes) -> Array | None:
        """Return a row's JSON value with the batch axis before it, None if it does not fit."""
        if self.packer is not None:
            is_list = text.startswith(b"[") and text.endswith(b"]")
            return self.packer.rows((text[1:-1],)) if is_list else None
        # The letters of true and false, which would pass for numbers.
        if b"t" in text or b"f" in text:
            return None
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return None
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
        written = write(self.frame, responses[0])
        if written is not None:
            return written
        (request,) = self.requests
        group = Group((0,), request.inputs)
        return PredictCall(self.frame.description, self.requests, (group,), "").encode(responses)


_frames: dict[bytes, Frame] = {}


def find(body: bytes) -> tuple[Frame, int] | None:
    """Return the frame of a body, and where its numbers begin."""
    at = one_row.start(body)
    frame = _frames.get(body[:at])
    return None if frame is None or not body.endswith(frame.end) else (frame, at)


def write(frame: Frame, response: InferResponse) -> Reply | None:
    """Return the answer to one row; None where it holds numbers that JSON does not have."""
    body = b""
    for start, tensor in zip(frame.answer, response.outputs, strict=True):
        array = tensor.array
        if array is None or len(array) != 1:
            return None
        body += start + orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
    return None if b"null" in body else Reply(body + b"}]}")


def decode(body: bytes, headers: Headers, describe: Describe, now: float) -> FramedCall | None:
    """Return the call that a body is, if it fits a frame; raises what ``describe`` raises."""
    found = find(body)
    if found is None or len(body) > LARGEST_BYTES:
        return None
    frame, at = found
    text = body[at : len(body) - len(frame.end)]
    if headers.get(b"content-type") not in MEDIA:
        return None
    description = describe(frame.servable, None, None)
    if description is not frame.description:
        return None
    array = frame.array(text)
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
    if rows != 1 or not one_row.is_plain(plan):
        return
    (item,) = plan.inputs
    row = one_row.find(body)
    if row is None or row.name not in (None, item.spec.name):
        return
    if len(_frames) >= _MOST_FRAMES:
        _frames.clear()
    servable, packer = row.members.get("servable"), one_row.packer(item)
    answer = _answer(description)
    _frames[body[: row.at]] = Frame(body[row.end :], servable, description, item, answer, packer)


def _answer(description: Description) -> tuple[bytes, ...]:
    head = b'{"servable":%b,"version":%d,"method":%b,"instances":[{' % (
        orjson.dumps(description.servable),
        description.version,
        orjson.dumps(name_of(description)),
    )
    names = [orjson.dumps(spec.name) + b":" for spec in description.signature.outputs]
    return tuple([(b"," if index else head) + name for index, name in enumerate(names)])
