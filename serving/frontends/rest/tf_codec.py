"""The wire format of ``POST /v1/models/NAME:predict``, TensorFlow Serving's and KServe's first.

Request::

    {"signature_name": "serving_default",
     "instances": [{"image": [[...]]}, ...]     one value per row: an object, or bare for one input
     "inputs": {"image": [[[...]]]}             or: whole tensors; bare for one input
    }

Answer: ``{"predictions": [...]}`` or ``{"outputs": ...}``, see ``tf_answer``. A value is what it
is for ``POST /predict``; NaN and the infinities may also be bare words. Source: g3doc/api_rest.md
of TensorFlow Serving's repository.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from serving.errors import InvalidRequest, ServingError
from serving.frontends.method import Describe
from serving.frontends.plan import plan_for
from serving.frontends.rest import (
    bare_numbers,
    instance_shape,
    json_document,
    predict_codec,
    predict_plain,
    tf_answer,
)
from serving.frontends.rest.json_document import Document, is_array, is_object
from serving.frontends.rest.predict_call import PredictCall
from serving.frontends.rest.predict_codec import Common
from serving.frontends.rest.predict_rows import Group
from serving.frontends.rest.wire import Headers, Reply, deadline_from, request_id
from serving.frontends.tensorflow.target import Target
from serving.request import Description, InferRequest, InferResponse
from serving.tensor import BatchAxes, Tensor

_KNOWN = ("signature_name", "instances", "inputs")
_MOST_STACKED = 256


class TfCall(NamedTuple):
    """A decoded call, and whether its instances are one tensor (see ``_stacked``)."""

    call: PredictCall
    stacked: bool

    @property
    def requests(self) -> tuple[InferRequest, ...]:
        """The requests to run."""
        return self.call.requests

    @property
    def encodes_fast(self) -> bool:
        """False: every number is written as text."""
        return False

    def failed(self, index: int, error: ServingError) -> ServingError:
        """Return an error that names the instance, where it is that of a method's instance."""
        return self.call.failed(index, error)

    def encode(self, responses: Sequence[InferResponse]) -> Reply:
        """Write the answers as one JSON object."""
        description, groups = self.call.description, self.call.groups
        if groups is None:
            return Reply(tf_answer.columns(responses[0], description))
        body = tf_answer.predictions(groups, responses, description, stacked=self.stacked)
        return Reply(body)


def decode(target: Target, body: bytes, headers: Headers, describe: Describe, now: float) -> TfCall:
    """Decode a body for what its path asks for; ``now`` is monotonic seconds, for deadlines.

    Raises NotFound (servable, version, signature), UnsupportedMedia, or InvalidRequest naming the
    instance and input that are wrong; one bad instance refuses the whole call.
    """
    predict_codec.check_media(headers)
    plain = _plain(target, body, headers, describe)
    if plain is not None:
        return TfCall(_of_plain(target, *plain, headers, now), stacked=False)
    document = json_document.parse(bare_numbers.quoted(body))
    found = json_document.members(document.root, "")
    json_document.known_only(found, _KNOWN, "body")
    predict_codec.check_form(found)
    signature = json_document.text_field(found, "signature_name", "signature_name", "")
    description = target.described(describe, signature)
    shown = {"version": target.version}
    stacked = False
    if "inputs" in found:
        common = Common(shown, headers, description, now)
        named = _by_name(found["inputs"], description)
        call = predict_codec.decode_inputs(document, named, common)
    else:
        stacked = not (description.batch.batched or description.method)
        if stacked:
            if is_array(found["instances"]) and len(found["instances"]):
                instance_shape.check_count(len(found["instances"]), description)
            description = _stacked(description)
        common = Common(shown, headers, description, now)
        call = _rows(document, found["instances"], common, stacked=stacked)
    document.settle()
    return TfCall(call, stacked)


def _plain(
    target: Target, body: bytes, headers: Headers, describe: Describe
) -> tuple[Description, tuple[Tensor, ...]] | None:
    """Read the commonest body in one go, if it is one: a few rows of plain numbers."""
    if b'"servable"' in body:  # which only ``POST /predict`` knows
        return None
    return predict_plain.decode(body, headers, lambda *_: target.described(describe))


def _of_plain(
    target: Target,
    description: Description,
    inputs: tuple[Tensor, ...],
    headers: Headers,
    now: float,
) -> PredictCall:
    request = InferRequest(
        description.servable,
        inputs,
        version=target.version,
        id=request_id(headers),
        deadline=deadline_from(headers, now),
        generation=description.generation,
    )
    group = Group(tuple(range(inputs[0].shape[0])), inputs)
    return PredictCall(description, (request,), (group,), "")


def _by_name(raw: Any, description: Description) -> Any:
    """Return ``inputs`` by name; a bare value is that of the only input."""
    plan = plan_for(description)
    if len(plan.inputs) == 1 and (not is_object(raw) or predict_codec.is_value(raw, plan)):
        return {plan.inputs[0].spec.name: raw}
    return raw


def _rows(document: Document, raw: Any, common: Common, *, stacked: bool) -> PredictCall:
    call = predict_codec.decode_instances(document, raw, common)
    if stacked and len(call.requests) > 1:
        raise InvalidRequest(
            "the instances have different shapes",
            code="ragged",
            where="instances",
            expected="instances of one shape: they are one tensor of this servable",
            fix="send them in several calls",
        )
    return call


_known: dict[int, tuple[Description, Description]] = {}


def _stacked(description: Description) -> Description:
    """Return a servable without a batch axis as if it had one: axis 0 of every tensor.

    That is what instances are to these clients, whatever the model makes of it: slices of one
    tensor. It goes to the model whole and runs alone.
    """
    found = _known.get(id(description))
    if found is None or found[0] is not description:
        if len(_known) >= _MOST_STACKED:
            _known.clear()
        signature = description.signature
        axes = BatchAxes(
            True, "stacked", (0,) * len(signature.inputs), (0,) * len(signature.outputs)
        )
        stacked = dataclasses.replace(description, batch=axes, max_batch_size=0)
        found = _known[id(description)] = (description, stacked)
    return found[1]
