"""The wire format of V2 inference over REST: JSON, and the binary tensor data extension.

Sources: the Open Inference Protocol's REST specification and Triton's binary data extension. A
body with binary data is::

    | JSON, as long as Inference-Header-Content-Length says | input 0 | input 2 | ...

the raw tensors in the order of the JSON's inputs that have a ``binary_data_size``; answers are
built alike. A header length of 0 is Triton's raw binary request: the body is the one input's
elements, and the outputs come back binary.

Over the specification: JSON numbers are accepted and given for FP16 and BF16 too, and NaN and
the infinities are the strings of ``json_tensor``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from serving.errors import (
    InvalidRequest,
    NotFound,
    ServingError,
    UnsupportedMedia,
    did_you_mean,
    listing,
)
from serving.frontends import v2_parameters
from serving.frontends.rest import json_document, v2_plain, v2_raw_request, v2_recipe
from serving.frontends.rest.json_document import Document, is_array, wrong_type
from serving.frontends.rest.v2_call import HEADER_LENGTH, V2Call
from serving.frontends.rest.v2_inputs import Inputs
from serving.frontends.rest.v2_recipe import Wanted
from serving.frontends.rest.wire import Describe, Headers, deadline_from, media_type, request_id
from serving.request import Description, InferRequest
from serving.tensor import BYTES, Tensor

_SHORT_JSON = 64 * 1024
_ALL_BINARY = v2_parameters.Parameters(binary_data_output=True)


class _Target(NamedTuple):
    """Whom a request is for, and what its HTTP head says of it."""

    description: Description
    version: int | None
    headers: Headers
    now: float

    def call(self, inputs: tuple[Tensor, ...], id: str, wanted: Wanted) -> V2Call:
        parameters = wanted.parameters
        deadline = deadline_from(self.headers, self.now)
        if parameters.timeout_s is not None:
            limit = self.now + parameters.timeout_s
            deadline = limit if deadline is None else min(deadline, limit)
        request = InferRequest(
            self.description.servable,
            inputs,
            version=self.version,
            outputs=wanted.outputs,
            id=id or request_id(self.headers),
            deadline=deadline,
            priority=parameters.priority,
            sequence=parameters.sequence,
            parameters=parameters.custom,
            generation=self.description.generation,
        )
        default = parameters.binary_data_output
        return V2Call(self.description, request, id, default, wanted.binary)


def decode(
    model: str, version: str | None, body: bytes, headers: Headers, describe: Describe, now: float
) -> V2Call:
    """Decode an infer request for ``model`` and ``version`` (as the URL has them).

    ``now`` is monotonic seconds, for deadlines. The tensors may be views of ``body``. Raises
    NotFound, UnsupportedMedia, InvalidRequest, or Unimplemented.
    """
    kind = media_type(headers)
    if kind.startswith(("multipart/", "image/", "audio/", "video/")):
        raise UnsupportedMedia(
            "this route reads JSON, with binary data after it",
            where="header Content-Type",
            expected="application/json or application/octet-stream",
            given=repr(kind[:80]),
        )
    number = version_number(version)
    description = describe(model, number)
    target = _Target(description, number, headers, now)
    length = _header_length(headers, len(body))
    if length == 0:
        inputs = (v2_raw_request.read(description, body),)
        return target.call(inputs, "", Wanted(parameters=_ALL_BINARY))
    if length is None:
        plain = v2_plain.read(body, description)
        if plain is not None:
            return target.call(plain.inputs, plain.id, Wanted(plain.outputs))
        return _read(body, memoryview(b""), target)
    head, tail = body[:length], memoryview(body)[length:]
    recipe = v2_recipe.find(description, head)
    known = None if recipe is None else recipe.inputs(tail)
    if recipe is None or known is None:
        return _read(head, tail, target)
    return target.call(known, "", recipe.wanted)


def decodes_fast(
    model: str, version: str | None, size: int, headers: Headers, describe: Describe
) -> bool:
    """Return whether a body is decoded without work per element: binary, and no strings in it.

    False too when the request will be refused: ``decode`` has the words for that.
    """
    try:
        length = _header_length(headers, size)
        specs = describe(model, version_number(version)).signature.inputs
    except ServingError:
        return False
    if length is None or length > _SHORT_JSON:
        return False
    return all(spec.dtype is not BYTES for spec in specs)


def version_number(version: str | None) -> int | None:
    """Return a URL's version; raises NotFound for one that is no positive integer."""
    if version is None:
        return None
    if version.isascii() and version.isdigit() and len(version) <= 18 and int(version) > 0:
        return int(version)
    raise NotFound(
        f"there is no version {version[:40]!r}",
        code="unknown_version",
        where="path",
        expected="a positive integer",
    )


def _header_length(headers: Headers, size: int) -> int | None:
    """Return the length of the JSON part, None when the body is nothing but JSON."""
    text = headers.get(HEADER_LENGTH)
    if text is None:
        return None
    if not text.isdigit() or len(text) > 18 or int(text) > size:
        raise InvalidRequest(
            "the length of the JSON part is not usable",
            code="bad_header_length",
            where="header Inference-Header-Content-Length",
            expected=f"an integer from 0 to the body's {size} bytes",
            given=repr(text[:40].decode("latin-1")),
        )
    return int(text)


def _read(head: bytes, tail: memoryview, target: _Target) -> V2Call:
    """Read any JSON part, and the binary data behind it."""
    document = json_document.parse(head)
    found = json_document.fields(document.root, "")
    id = json_document.text_field(found, "id", "id", "")
    parameters = v2_parameters.NONE
    if found.get("parameters") is not None:
        given = json_document.scalars(found["parameters"], "parameters")
        parameters = v2_parameters.understand(given)
    reader = Inputs(document, target.description, tail)
    inputs = reader.read(found.get("inputs"))
    outputs, binary = _outputs(document, found.get("outputs"), target.description)
    document.settle()
    wanted = Wanted(outputs, binary, parameters)
    if not id:
        v2_recipe.remember(target.description, head, inputs, reader.binary, wanted)
    return target.call(inputs, id, wanted)


def _outputs(
    document: Document, raw: Any, description: Description
) -> tuple[tuple[str, ...] | None, dict[str, bool]]:
    """Return the wanted outputs (None: all) and what was said of each about binary data."""
    if raw is None:
        return None, {}
    if not is_array(raw):
        raise wrong_type("outputs", "a list of outputs", raw)
    known = [spec.name for spec in description.signature.outputs]
    names: list[str] = []
    binary: dict[str, bool] = {}
    for index, item in enumerate(document.elements(raw)):
        where = f"outputs[{index}]"
        found = json_document.fields(item, where)
        name = json_document.text_field(found, "name", f"{where}.name")
        if name not in known or name in names:
            problem = "is asked for twice" if name in names else "is not known"
            raise InvalidRequest(
                f"output {name[:80]!r} {problem}",
                code="duplicate_output" if name in names else "unknown_output",
                where=where,
                expected=listing(known),
                fix="" if name in names else did_you_mean(name[:80], known),
            )
        names.append(name)
        if found.get("parameters") is not None:
            parameters = json_document.scalars(found["parameters"], f"{where}.parameters")
            v2_parameters.refuse_tensor_parameters(parameters, f"{where}.parameters")
            if "binary_data" in parameters:
                binary[name] = v2_parameters.boolean(
                    parameters["binary_data"], f"{where}.parameters.binary_data"
                )
    return tuple(names) or None, binary
