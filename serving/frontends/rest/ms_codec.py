"""The bodies of MindSpore Serving's REST clients: JSON in, JSON out, always with HTTP 200.

Request: ``{"instances": {input: value, ...}}`` or a list of such objects; other keys are not
looked at. ``ms_json`` has the rules for values. Answer::

    {"instances": [{output: value, ...}, {"error_msg": text}, ...]}
    {"error_msg": text}                            when the whole request failed

Outputs stand in alphabetical order. Floats are written as the doubles they are equal to, NaN and
the infinities as null, bytes as ``{"b64": ...}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from serving.errors import InvalidRequest, ServingError
from serving.frontends.method import Describe
from serving.frontends.mindspore import instances, outputs, types
from serving.frontends.mindspore.failures import SYSTEM_ERROR, Failure, verdict
from serving.frontends.mindspore.instances import Common
from serving.frontends.mindspore.outputs import Output
from serving.frontends.mindspore.runs import Outcome
from serving.frontends.mindspore.target import Target
from serving.frontends.plan import plan_for
from serving.frontends.rest import json_answer, ms_json, ms_plain
from serving.frontends.rest.status import dump
from serving.frontends.rest.wire import Headers, Reply, deadline_from, request_id
from serving.request import Description, InferRequest


class MsCall(NamedTuple):
    """A decoded call: a request for each instance, or what is wrong with that instance."""

    target: Target
    description: Description
    instances: tuple[InferRequest | ServingError, ...]

    @property
    def requests(self) -> tuple[InferRequest, ...]:
        """The requests of the instances that have one."""
        return tuple([i for i in self.instances if not isinstance(i, ServingError)])

    @property
    def encodes_fast(self) -> bool:
        """False: every number is written as text."""
        return False

    def failed(self, _index: int, error: ServingError) -> ServingError:
        """Return the error: those of single instances never come here."""
        return error

    def encode(self, responses: Sequence[Outcome]) -> Reply:
        """Write the answer from a response or an error for each instance."""
        plain = ms_plain.write(responses, self.description)
        if plain is not None:
            return Reply(plain)
        failures = verdict(responses, self.target)
        if len(failures) == 1:
            return refusal(failures[0], "")
        rows = []
        for place, outcome in enumerate(responses):
            if isinstance(outcome, ServingError):
                rows.append({"error_msg": failures[place].text})
            else:
                found = sorted(outputs.of(outcome, self.description))
                rows.append({output.name: _value(output) for output in found})
        return Reply(json_answer.dumps({"instances": rows}))


def parse(body: bytes) -> list[dict[str, Any]]:
    """Return the instances of a body, their values still unread; raises InvalidRequest."""
    if not body:
        raise InvalidRequest("http message invalid")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"Illegal JSON format. {error}") from None
    if not isinstance(found, dict) or "instances" not in found:
        raise ms_json.refused("key 'instances' expects to exist once, but actually 0 times")
    given = found["instances"]
    if isinstance(given, dict):
        if not given:
            raise ms_json.refused("json object, value is empty")
        return [given]
    if given == []:
        raise ms_json.refused("instances value is array type, but no value")
    if not isinstance(given, list) or not isinstance(given[0], dict):
        raise ms_json.refused("instances no key mode is not supported")
    for instance in given:
        if not isinstance(instance, dict):
            raise ms_json.refused("json array, instance is not object type")
        if not instance:
            raise ms_json.refused("json array, instance is object type, but no value")
    return given


def decode(
    body: bytes,
    given: Sequence[dict[str, Any]],
    target: Target,
    headers: Headers,
    describe: Describe,
    now: float,
) -> MsCall:
    """Decode the instances of a body, as ``parse`` returned them.

    ``now`` is monotonic seconds, for deadlines. Raises a ServingError.
    """
    description = target.find(describe)
    common = Common(request_id(headers), deadline_from(headers, now))
    plain = ms_plain.read(body, given, plan_for(description))
    if plain is not None:
        made = [instances.request(description, inputs, target, common) for inputs in plain]
        return MsCall(target, description, tuple(made))
    found = instances.requests(target, description, given, ms_json.read, common)
    return MsCall(target, description, found)


def refusal(failure: Failure, request_id: str) -> Reply:
    """Return the answer to a call that failed as a whole."""
    text = failure.text
    if failure.code == SYSTEM_ERROR and request_id:
        text += f" (request {request_id})"
    return Reply(dump({"error_msg": text}))


def _value(output: Output) -> Any:
    if output.array is None:
        write = _text if output.type is types.STRING else json_answer.base64
        return json_answer.nested([write(item) for item in output.items], output.shape)
    array = output.array
    if array.dtype.kind == "f" and array.dtype.itemsize < 8:
        array = array.astype("<f8")
    return json_answer.plain(array)


def _text(item: bytes) -> str:
    return item.decode()
