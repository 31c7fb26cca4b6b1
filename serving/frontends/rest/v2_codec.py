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
from serving.frontends import v2_parameters, version_name
from serving.frontends.classification import Classes, count_of
from serving.frontends.method import Describe, name_of, split
from serving.frontends.rest import (
    json_document,
    v2_binary_row_form,
    v2_frame,
    v2_plain,
    v2_raw_request,
    v2_recipe,
    v2_row_form,
)
from serving.frontends.rest.json_document import Document, is_array, wrong_type
from serving.frontends.rest.row_form import Cut
from serving.frontends.rest.v2_call import HEADER_LENGTH, V2Call
from serving.frontends.rest.v2_inputs import Inputs
from serving.frontends.rest.v2_recipe import Wanted
from serving.frontends.rest.wire import Headers, deadline_from, media_type, request_id
from serving.frontends.shared_memory import sharing
from serving.frontends.shared_memory.sharing import Sharing
from serving.frontends.v2_parameters import Scalar
from serving.request import Description, InferRequest, VersionName
from serving.tensor import Tensor

_SHORT_JSON = 64 * 1024
_ALL_BINARY = v2_parameters.Parameters(binary_data_output=True)


class _Target(NamedTuple):
    """Whom a request is for, and what its HTTP head says of it; ``model`` is as asked for."""

    model: str
    description: Description
    version: VersionName | None
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
            method=self.description.method or None,
            outputs=wanted.outputs,
            id=id or request_id(self.headers),
            deadline=deadline,
            priority=parameters.priority,
            sequence=parameters.sequence,
            parameters=parameters.custom,
            generation=self.description.generation,
        )
        default = parameters.binary_data_output
        known = self.description
        return V2Call(self.model, known, request, id, default, wanted.binary, wanted.classes)


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
    length = _header_length(headers, len(body))
    head = body if length is None else bytes(body[:length])
    number = version_number(version)
    description = _described(model, number, head, describe)
    target = _Target(model, description, number, headers, now)
    if length == 0:
        inputs = (v2_raw_request.read(description, body),)
        return target.call(inputs, "", Wanted(parameters=_ALL_BINARY))
    if length is None:
        shared = v2_recipe.find_shared(description, body)
        if shared is not None:
            return target.call(shared.inputs, "", shared.wanted)._replace(sharing=shared.sharing)
        plain = v2_frame.read(body, description)
        if plain is None:
            plain = v2_plain.read(body, description)
            if plain is not None:
                v2_frame.remember(body, description, plain)
        if plain is not None:
            return target.call(plain.inputs, plain.id, Wanted(plain.outputs))
        return _read(body, memoryview(b""), target, describe)
    tail = memoryview(body)[length:]
    recipe = v2_recipe.find(description, head)
    known = None if recipe is None else recipe.inputs(tail)
    if recipe is None or known is None:
        return _read(head, tail, target, describe)
    return target.call(known, "", recipe.wanted)


def decodes_fast(
    model: str, version: str | None, size: int, headers: Headers, describe: Describe
) -> bool:
    """Return whether a body is decoded without work per element: binary, and no strings in it.

    False too when the request will be refused: ``decode`` has the words for that.
    """
    try:
        length = _header_length(headers, size)
        servable, method = split(model)
        specs = describe(servable, version_number(version), method).signature.inputs
    except ServingError:
        return False
    if length is None or length > _SHORT_JSON:
        return False
    return all(not spec.dtype.is_bytes for spec in specs)


def cut(
    model: str, version: str | None, body: bytes, headers: Headers, describe: Describe
) -> Cut | None:
    """Return the form of rows that a body has, which ``decode`` has read; None if it has none.

    Raises what ``describe`` raises for a model whose name says more than that of a servable.
    """
    number, length = version_number(version), _header_length(headers, len(body))
    description = describe(model, number, None)
    if length is None:
        return v2_row_form.cut(model, number, body, description)
    recipe = v2_recipe.find(description, body[:length])
    return None if recipe is None else v2_binary_row_form.cut(model, number, length, recipe)


def version_number(version: str | None) -> VersionName | None:
    """Return a URL's version, a number or a label; raises NotFound for what can be neither."""
    return None if version is None else version_name.read(version, "path")


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


def _read(head: bytes, tail: memoryview, target: _Target, describe: Describe) -> V2Call:
    """Read any JSON part, and the binary data behind it."""
    document = json_document.parse(head)
    found = json_document.members(document.root, "")
    id = json_document.text_field(found, "id", "id", "")
    parameters = v2_parameters.NONE
    if found.get("parameters") is not None:
        given = json_document.scalars(found["parameters"], "parameters")
        parameters = v2_parameters.understand(given)
        target = _at_method(target, parameters.method, describe)
    reader = Inputs(document, target.description, tail)
    inputs = reader.read(found.get("inputs"))
    outputs = _outputs(document, found.get("outputs"), target.description)
    document.settle()
    wanted = Wanted(outputs.names, outputs.binary, parameters, outputs.classes)
    shared = outputs.shared
    if reader.shared or shared:
        sharing = Sharing(reader.shared, shared)
        if not id and not reader.binary:
            v2_recipe.remember_shared(target.description, head, inputs, sharing, wanted)
        return target.call(inputs, id, wanted)._replace(sharing=sharing)
    if not id:
        v2_recipe.remember(target.description, head, inputs, reader.binary, wanted)
    return target.call(inputs, id, wanted)


def _described(
    model: str, version: VersionName | None, head: bytes, describe: Describe
) -> Description:
    """Return what the model's name stands for; of several methods the JSON part may name one."""
    servable, method = split(model)
    try:
        return describe(servable, version, method)
    except NotFound as error:
        if method is not None or error.code != "unknown_method":
            raise
        method = _method_in(head)
        if not method:
            raise
    return describe(servable, version, method)


def _method_in(head: bytes) -> str:
    """Return the method that the parameters of a JSON part name; empty where they do not."""
    if not head:
        return ""
    raw = json_document.fields(json_document.parse(head).root, "").get("parameters")
    given = {} if raw is None else json_document.scalars(raw, "parameters")
    return v2_parameters.understand(given).method


def _at_method(target: _Target, method: str, describe: Describe) -> _Target:
    """Return the target for the method that the parameters name, which the URL may name too."""
    if not method or method == name_of(target.description):
        return target
    servable, asked = split(target.model)
    if asked is not None:
        raise v2_parameters.other_method(asked, method)
    return target._replace(description=describe(servable, target.version, method))


class _Outputs(NamedTuple):
    """The wanted outputs (None: all) and what was said of some.

    That is whether they are wanted as binary data, or as classes, and what their parameters say
    about shared memory.
    """

    names: tuple[str, ...] | None
    binary: dict[str, bool]
    shared: dict[str, dict[str, Scalar]]
    classes: Classes | None


def _outputs(document: Document, raw: Any, description: Description) -> _Outputs:
    if raw is None:
        return _Outputs(None, {}, {}, None)
    if not is_array(raw):
        raise wrong_type("outputs", "a list of outputs", raw)
    known = {spec.name: spec for spec in description.signature.outputs}
    names: list[str] = []
    classes: dict[str, int] = {}
    binary: dict[str, bool] = {}
    shared: dict[str, dict[str, Scalar]] = {}
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
            if count := count_of(parameters, known[name], f"{where}.parameters"):
                classes[name] = count
            if of_memory := sharing.of(parameters):
                shared[name] = of_memory
            if "binary_data" in parameters:
                binary[name] = v2_parameters.boolean(
                    parameters["binary_data"], f"{where}.parameters.binary_data"
                )
    wanted = Classes(classes, description) if classes else None
    return _Outputs(tuple(names) or None, binary, shared, wanted)
