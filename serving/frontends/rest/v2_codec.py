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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.errors import (
    InvalidRequest,
    NotFound,
    ServingError,
    UnsupportedMedia,
    did_you_mean,
    listing,
)
from serving.frontends.rest import (
    json_answer,
    json_document,
    json_tensor,
    raw_tensor,
    v2_parameters,
)
from serving.frontends.rest.fit import check_dtype, check_names, check_shape
from serving.frontends.rest.json_document import Document, is_array, wrong_type
from serving.frontends.rest.json_tensor import Value
from serving.frontends.rest.plan import InputPlan, plan_for
from serving.frontends.rest.wire import (
    Describe,
    Headers,
    Reply,
    deadline_from,
    media_type,
    request_id,
)
from serving.request import Description, InferRequest, InferResponse
from serving.tensor import BYTES, DType, Tensor, element_count, shape_text

HEADER_LENGTH = b"inference-header-content-length"
_SHORT_JSON = 64 * 1024
_BINARY = b"application/octet-stream"


@dataclass(frozen=True)
class V2Call:
    """A decoded inference request, and which of its outputs are wanted as binary data."""

    description: Description
    request: InferRequest
    id: str
    binary_default: bool
    binary: Mapping[str, bool]

    @property
    def requests(self) -> tuple[InferRequest, ...]:
        """The one request."""
        return (self.request,)

    @property
    def encodes_fast(self) -> bool:
        """Whether all outputs are binary, and none are strings: then they are only copied."""
        return all(
            self.binary.get(spec.name, self.binary_default) and spec.dtype is not BYTES
            for spec in self.description.signature.outputs
            if self.request.outputs is None or spec.name in self.request.outputs
        )

    def encode(self, responses: Sequence[InferResponse]) -> Reply:
        """Write the answer: JSON, followed by the outputs that were wanted as binary data.

        Raises InvalidRequest for a string that JSON cannot hold.
        """
        (response,) = responses
        outputs: list[dict[str, Any]] = []
        tail: list[bytes | memoryview] = []
        for tensor in response.outputs:
            output: dict[str, Any] = {
                "name": tensor.name,
                "datatype": tensor.dtype.name,
                "shape": list(tensor.shape),
            }
            if self.binary.get(tensor.name, self.binary_default):
                data = raw_tensor.write(tensor)
                output["parameters"] = {"binary_data_size": len(data)}
                tail.append(data)
            else:
                output["data"] = _json_data(tensor)
            outputs.append(output)
        answer: dict[str, Any] = {
            "model_name": response.servable,
            "model_version": str(response.version),
        }
        if self.id:
            answer["id"] = self.id
        if response.parameters:
            answer["parameters"] = response.parameters
        answer["outputs"] = outputs
        head = json_answer.dumps(answer)
        if not tail:
            return Reply(head)
        length = (HEADER_LENGTH, b"%d" % len(head))
        return Reply(b"".join([head, *tail]), _BINARY, (length,))


def _json_data(tensor: Tensor) -> Any:
    """Return the elements in C order, flat."""
    if tensor.array is not None:
        return json_answer.plain(json_answer.numbers(tensor).reshape(-1))
    try:
        return [item.decode() for item in tensor.items or ()]
    except UnicodeDecodeError:
        raise InvalidRequest(
            f"output {tensor.name!r} holds bytes that JSON text cannot",
            code="not_text",
            where=f"outputs.{tensor.name}",
            fix='ask for it as binary data: "parameters": {"binary_data": true}',
        ) from None


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
    length = _header_length(headers, len(body))
    if length == 0:
        return _raw_call(description, number, body, headers, now)
    head = body if length is None else body[:length]
    tail = memoryview(body)[len(head) :]
    return _call(description, number, json_document.parse(head), tail, headers, now)


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


def _call(
    description: Description,
    version: int | None,
    document: Document,
    tail: memoryview,
    headers: Headers,
    now: float,
) -> V2Call:
    found = json_document.fields(document.root, "")
    id = json_document.text_field(found, "id", "id", "")
    parameters = v2_parameters.NONE
    if found.get("parameters") is not None:
        given = json_document.scalars(found["parameters"], "parameters")
        parameters = v2_parameters.understand(given)
    inputs = _Inputs(document, description, tail).read(found.get("inputs"))
    outputs, binary = _outputs(document, found.get("outputs"), description)
    document.settle()
    deadline = deadline_from(headers, now)
    if parameters.timeout_s is not None:
        limit = now + parameters.timeout_s
        deadline = limit if deadline is None else min(deadline, limit)
    request = InferRequest(
        description.servable,
        inputs,
        version=version,
        outputs=outputs,
        id=id or request_id(headers),
        deadline=deadline,
        priority=parameters.priority,
        sequence=parameters.sequence,
        parameters=parameters.custom,
    )
    return V2Call(description, request, id, parameters.binary_data_output, binary)


class _Inputs:
    """Reads the inputs of one request, and uses up the binary data in their order."""

    def __init__(self, document: Document, description: Description, tail: memoryview) -> None:
        self._document = document
        self._tail = tail
        self._known = plan_for(description).by_name
        self._specs = description.signature.inputs

    def read(self, raw: Any) -> tuple[Tensor, ...]:
        """Return the tensors in the signature's order."""
        if not is_array(raw):
            raise wrong_type("inputs", "a list of tensors", raw)
        tensors: dict[str, Tensor] = {}
        for index, item in enumerate(self._document.elements(raw)):
            found = json_document.fields(item, f"inputs[{index}]")
            name = json_document.text_field(found, "name", f"inputs[{index}].name")
            if name in tensors:
                raise InvalidRequest(
                    f"input {name!r} is given twice", code="duplicate_input", where="inputs"
                )
            item_plan = self._known.get(name)
            if item_plan is None:
                check_names({name}, self._specs, f"inputs[{index}]")
            else:
                tensors[name] = self._tensor(found, item_plan, f"inputs.{name}")
        if len(tensors) != len(self._specs):
            check_names(set(tensors), self._specs, "inputs")
        if len(self._tail):
            raise InvalidRequest(
                "bytes are left over after the last binary tensor",
                code="wrong_size",
                where="body",
                expected="as many bytes as the binary_data_size values add up to",
                given=f"{len(self._tail)} more",
            )
        return tuple([tensors[spec.name] for spec in self._specs])

    def _tensor(self, found: dict[str, Any], plan: InputPlan, where: str) -> Tensor:
        spec = plan.spec
        check_dtype(
            json_document.text_field(found, "datatype", f"{where}.datatype"),
            spec,
            f"{where}.datatype",
        )
        shape = json_document.shape_field(self._document, found.get("shape"), f"{where}.shape")
        check_shape(shape, plan.whole, f"{where}.shape")
        parameters: Mapping[str, v2_parameters.Scalar] = {}
        if found.get("parameters") is not None:
            parameters = json_document.scalars(found["parameters"], f"{where}.parameters")
            v2_parameters.refuse_tensor_parameters(parameters, f"{where}.parameters")
        size = parameters.get("binary_data_size")
        if (size is None) == ("data" not in found):
            raise InvalidRequest(
                "an input needs either 'data' or binary data",
                code="bad_input",
                where=where,
                expected="exactly one of 'data' and 'parameters.binary_data_size'",
                given="neither" if size is None else "both",
            )
        if size is None:
            value = _from_json(self._document, found["data"], spec.dtype, shape, f"{where}.data")
        else:
            data = self._take(size, f"{where}.parameters.binary_data_size")
            value = raw_tensor.read(data, spec.dtype, shape, spec.name, where)
        return Tensor(spec.name, spec.dtype, shape, value.array, value.items)

    def _take(self, size: v2_parameters.Scalar, where: str) -> memoryview:
        left = len(self._tail)
        if type(size) is not int or not 0 <= size <= left:
            raise InvalidRequest(
                "the size of the binary data is not usable",
                code="wrong_size",
                where=where,
                expected=f"an integer from 0 to the {left} bytes that are left of the body",
                given=repr(size)[:60],
                fix="" if left else "Inference-Header-Content-Length says where the JSON ends",
            )
        data, self._tail = self._tail[:size], self._tail[size:]
        return data


def _from_json(
    document: Document, raw: Any, dtype: DType, shape: tuple[int, ...], where: str
) -> Value:
    """Read ``data``, flat in C order or nested as the shape says."""
    value = json_tensor.read(document, raw, dtype, where)
    count = element_count(shape)
    given = value.shape
    if element_count(given) != count or (len(given) > 1 and count and given != shape):
        raise InvalidRequest(
            "the data does not match the shape",
            code="wrong_size",
            where=where,
            expected=f"{count} elements, flat or nested as {shape_text(shape)}",
            given=f"{element_count(given)} elements as {shape_text(given)}",
        )
    array = None if value.array is None else value.array.reshape(shape)
    return Value(shape, array, value.items)


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


def _raw_call(
    description: Description, version: int | None, body: bytes, headers: Headers, now: float
) -> V2Call:
    """Decode Triton's raw binary request: one input, whose shape follows from the size."""
    specs = description.signature.inputs
    plans = plan_for(description).inputs
    shape = _raw_shape(plans[0], len(body)) if len(plans) == 1 else None
    if shape is None:
        raise InvalidRequest(
            "a body without JSON is only understood for one input with at most one free size",
            code="bad_header_length",
            where="header Inference-Header-Content-Length",
            given=listing([f"{spec.name} {spec.text()}" for spec in specs]),
            fix="describe the tensors in a JSON part, and give its length",
        )
    spec = specs[0]
    value = raw_tensor.read(memoryview(body), spec.dtype, shape, spec.name, f"inputs.{spec.name}")
    tensor = Tensor(spec.name, spec.dtype, shape, value.array, value.items)
    request = InferRequest(
        description.servable,
        (tensor,),
        version=version,
        id=request_id(headers),
        deadline=deadline_from(headers, now),
    )
    return V2Call(description, request, "", True, {})


def _raw_shape(plan: InputPlan, size: int) -> tuple[int, ...] | None:
    """Return the shape of ``size`` bytes: one row, or as many as fit when a row has no free size.

    None when the shape does not follow.
    """
    spec, axis, dims = plan.spec, plan.axis, plan.whole
    if dims is None:
        return None
    free = [i for i, dim in enumerate(dims) if isinstance(dim, str)]
    if axis is not None and len(free) == 2:
        dims = (*dims[:axis], 1, *dims[axis + 1 :])
        free.remove(axis)
    known = element_count([dim for dim in dims if isinstance(dim, int)])
    if spec.dtype is BYTES:
        return tuple(dim if isinstance(dim, int) else 1 for dim in dims) if known == 1 else None
    if len(free) > 1 or (free and not known):
        return None
    count = size // spec.dtype.itemsize
    return tuple(dim if isinstance(dim, int) else count // known for dim in dims)
