"""The wire format of ``POST /predict``: JSON in, JSON out, rows or whole tensors.

Request::

    {"servable": "digits", "version": 2, "method": "predict", "id": "a1", "parameters": {},
     "instances": [{"image": [[...]]}, ...]}     one object per row, without the batch axis;
                                                 whole tensors where there is no batch axis
     "inputs": {"image": [[[...]]]}              or: whole tensors in the engine's shape

``version`` may be a label, such as "stable". ``servable`` may be left out when one is served; all
but ``instances`` or ``inputs`` may be left out, or null. With one input, an instance may be the
bare value.
A value is a number, a string, a boolean, nested lists of them (``json_tensor`` has the rules;
``json_open`` for inputs of any type, which methods may have), or::

    {"b64": "AACAPw==", "dtype": "FP32", "shape": [1]}

that is raw little-endian elements. ``dtype`` is only checked, but says what an input of any type
gets (BYTES if left out); ``shape`` may be left out when the declared shape has at most one size
that varies. Without ``shape``, the bytes for a BYTES input are its one element; with it they are
V2's length-prefixed elements.

Answer: ``{"servable", "version", "method", "instances": [{output: value}, ...]}`` in the order
of the request, or ``"outputs": {output: value}``; ``id`` when one was given. Strings that are
no UTF-8 come as ``{"b64": ...}``, sequence and map outputs as JSON values.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from serving.errors import InvalidRequest, UnsupportedMedia
from serving.frontends import raw_tensor, version_name
from serving.frontends.fit import adapt, check_dtype, check_names, named_dtype
from serving.frontends.method import Describe, checked
from serving.frontends.plan import Dims, InputPlan, Plan, plan_for
from serving.frontends.rest import (
    instance_shape,
    json_document,
    json_open,
    json_tensor,
    names,
    predict_frame,
    predict_plain,
    predict_rows,
)
from serving.frontends.rest.json_document import Document, is_array, is_object, wrong_type
from serving.frontends.rest.predict_call import PredictCall
from serving.frontends.rest.predict_frame import FramedCall
from serving.frontends.rest.wire import (
    Headers,
    deadline_from,
    media_type,
    request_id,
)
from serving.frontends.value import Value
from serving.repository.labels import is_label
from serving.request import Description, InferRequest, VersionName
from serving.tensor import ANY, BYTES, Tensor, TensorSpec, element_count

_KNOWN = ("servable", "version", "method", "instances", "inputs", "parameters", "id")
_VALUE = ("b64", "dtype", "shape")
_MEDIA = ("", "application/json", "text/plain", "application/x-www-form-urlencoded")
_HINTS = {
    "outputs": "leave it out: /predict gives all outputs; /v2/models/NAME/infer has 'outputs' to "
    "choose some",
}


def decode(
    body: bytes, headers: Headers, describe: Describe, now: float
) -> PredictCall | FramedCall:
    """Decode the body of ``POST /predict``; ``now`` is monotonic seconds, for deadlines.

    Raises NotFound (servable, version, method), UnsupportedMedia, or InvalidRequest naming the
    instance and input that are wrong; one bad instance refuses the whole call.
    """
    framed = predict_frame.decode(body, headers, describe, now)
    if framed is not None:
        return framed
    plain = predict_plain.decode(body, headers, describe)
    if plain is not None:
        description, inputs = plain
        predict_frame.remember(body, description, inputs[0].shape[0])
        return _plain(description, inputs, headers, now)
    check_media(headers)
    document = json_document.parse(body)
    found = json_document.members(document.root, "")
    json_document.known_only(found, _KNOWN, "body", _HINTS)
    description = describe(_servable(found), _version(found), _method(found))
    check_form(found)
    common = Common(found, headers, description, now)
    if "inputs" in found:
        call = decode_inputs(document, found["inputs"], common)
    else:
        call = decode_instances(document, found["instances"], common)
    document.settle()
    return call


def _plain(
    description: Description, inputs: tuple[Tensor, ...], headers: Headers, now: float
) -> PredictCall:
    request = InferRequest(
        description.servable,
        inputs,
        id=request_id(headers),
        deadline=deadline_from(headers, now),
        generation=description.generation,
    )
    group = predict_rows.Group(tuple(range(inputs[0].shape[0])), inputs)
    return PredictCall(description, (request,), (group,), "")


class Common:
    """What all requests of a call have in common; ``found`` are the fields of its body."""

    __slots__ = ("deadline", "description", "id", "parameters", "trace", "version")

    def __init__(
        self, found: dict[str, Any], headers: Headers, description: Description, now: float
    ) -> None:
        self.description = description
        self.id = json_document.text_field(found, "id", "id", "")
        self.version = _version(found)
        self.trace = self.id or request_id(headers)
        self.deadline = deadline_from(headers, now)
        raw = found.get("parameters")
        self.parameters = {} if raw is None else json_document.scalars(raw, "parameters")

    def request(self, inputs: tuple[Tensor, ...]) -> InferRequest:
        """Return a request with these inputs."""
        return InferRequest(
            self.description.servable,
            inputs,
            version=self.version,
            method=self.description.method or None,
            id=self.trace,
            deadline=self.deadline,
            parameters=self.parameters,
            generation=self.description.generation,
        )


def check_form(found: dict[str, Any]) -> None:
    """Raise InvalidRequest unless a body has rows or whole tensors, and not both."""
    if ("instances" in found) == ("inputs" in found):
        both = "instances" in found
        raise InvalidRequest(
            "the body must have either 'instances' or 'inputs'",
            code="bad_body",
            where="body",
            expected="exactly one of 'instances' and 'inputs'",
            given="both" if both else "neither",
        )


def check_media(headers: Headers) -> None:
    """Refuse what is surely no JSON; curl's default type is let through, the body decides."""
    kind = media_type(headers)
    if kind not in _MEDIA and not kind.endswith("+json"):
        raise UnsupportedMedia(
            "this route reads JSON",
            where="header Content-Type",
            expected="application/json",
            given=repr(kind[:80]),
        )


def _servable(found: dict[str, Any]) -> str | None:
    if found.get("servable") is None:
        return None
    return names.check(json_document.text_field(found, "servable", "servable"), "servable")


def _version(found: dict[str, Any]) -> VersionName | None:
    version = found.get("version")
    if version is None:
        return None
    if isinstance(version, str) and is_label(version):
        return version
    if type(version) is not int or version < 1:
        fix = f"write {version} without quotes" if version_name.is_number(version) else ""
        raise wrong_type("version", version_name.EXPECTED, version, fix)
    return version


def _method(found: dict[str, Any]) -> str | None:
    if found.get("method") is None:
        return None
    return checked(json_document.text_field(found, "method", "method"), "method")


def decode_inputs(document: Document, raw: Any, common: Common) -> PredictCall:
    """Decode whole tensors into exactly one request."""
    specs = common.description.signature.inputs
    if not is_object(raw):
        raise wrong_type("inputs", "an object of the form {input: value}", raw)
    given = json_document.fields(raw, "inputs")
    check_names(set(given), specs, "inputs")
    inputs = []
    for item in plan_for(common.description).inputs:
        spec, dims = item.spec, item.whole
        where = f"inputs.{spec.name}"
        value = _value(document, given[spec.name], spec, dims, where)
        value = adapt(value, dims, where, item.axis)
        dtype = value.dtype or spec.dtype
        inputs.append(Tensor(spec.name, dtype, value.shape, value.array, value.items))
    request = common.request(tuple(inputs))
    return PredictCall(common.description, (request,), None, common.id)


def decode_instances(document: Document, raw: Any, common: Common) -> PredictCall:
    """Decode rows into as few requests as their shapes allow."""
    if not is_array(raw):
        raise wrong_type("instances", "a list of instances", raw)
    if not len(raw):
        raise InvalidRequest(
            "there are no instances",
            code="no_instances",
            where="instances",
            expected="at least one",
        )
    description = common.description
    plan = plan_for(description)
    groups = _whole_rows(document, raw, plan)
    if groups is None:
        decoded = [_row(document, item, i, plan) for i, item in enumerate(document.elements(raw))]
        groups = predict_rows.group(decoded, plan)
    requests = tuple(common.request(group.inputs) for group in groups)
    return PredictCall(description, requests, groups, common.id)


def _whole_rows(document: Document, raw: Any, plan: Plan) -> tuple[predict_rows.Group, ...] | None:
    """Read bare rows of one input as the one tensor they are; None when they are not that.

    Spares an array per row. Whoever falls through (rows of several lengths, mistakes, too many
    rows for one batch) is read row by row, which also finds the words for a mistake.
    """
    only = plan.inputs[0] if len(plan.inputs) == 1 else None
    if only is None or only.axis != 0 or only.spec.dtype is BYTES or is_object(raw[0]):
        return None
    if plan.description.method:
        return None
    rows = len(raw)
    if rows > plan.description.max_batch_size > 0:
        return None
    spec = only.spec
    try:
        value = json_tensor.read(document, raw, spec.dtype, "instances")
        value = adapt(value, only.whole, "instances")
    except InvalidRequest:
        document.arrays_seen = 0
        document.leaves.clear()
        return None
    tensor = Tensor(spec.name, spec.dtype, value.shape, value.array)
    return (predict_rows.Group(tuple(range(rows)), (tensor,)),)


def _row(document: Document, raw: Any, index: int, plan: Plan) -> predict_rows.Row:
    """Read one instance into a value per input, in signature order."""
    where = f"instances[{index}]"
    if not is_object(raw) or is_value(raw, plan):
        if len(plan.inputs) != 1:
            raise wrong_type(where, "an object of the form {input: value}", raw)
        return (_row_value(document, raw, plan.inputs[0], plan, where),)
    given = json_document.fields(raw, where)
    if given.keys() != plan.by_name.keys():
        check_names(set(given), plan.description.signature.inputs, where)
    return tuple(
        [
            _row_value(document, given[item.spec.name], item, plan, f"{where}.{item.spec.name}")
            for item in plan.inputs
        ]
    )


def is_value(raw: Any, plan: Plan) -> bool:
    """Return whether an object is a ``{"b64"}`` value rather than an instance."""
    return len(plan.inputs) == 1 and "b64" not in plan.by_name and "b64" in raw


def _row_value(document: Document, raw: Any, item: InputPlan, plan: Plan, where: str) -> Value:
    value = _value(document, raw, item.spec, item.row, where)
    try:
        return adapt(value, item.row, where)
    except InvalidRequest as error:
        if error.code == "wrong_rank":
            error.fix = instance_shape.fix(value.shape, item, plan)
        raise


def _value(document: Document, raw: Any, spec: TensorSpec, dims: Dims, where: str) -> Value:
    """Read one value: a number, a string, nested lists, or a ``{"b64"}`` object."""
    is_open = spec.dtype is ANY
    if not is_object(raw):
        if is_open:
            return json_open.read(document, raw, where)
        return json_tensor.read(document, raw, spec.dtype, where)
    given = json_document.fields(raw, where)
    json_document.known_only(given, _VALUE, where)
    if "b64" not in given:
        raise wrong_type(where, 'a value, or {"b64": "..."}', raw)
    dtype = BYTES if is_open else spec.dtype
    if given.get("dtype") is not None:
        named = json_document.text_field(given, "dtype", where)
        if is_open:
            dtype = named_dtype(named, f"{where}.dtype")
        else:
            check_dtype(named, spec, f"{where}.dtype")
    data = json_tensor.read_base64(given["b64"], where)
    if given.get("shape") is not None:
        shape = json_document.shape_field(document, given["shape"], f"{where}.shape")
    elif dtype is BYTES:
        return Value((), None, [data], dtype)
    else:
        shape = _deduced(dims, len(data) // dtype.itemsize, where)
    value = raw_tensor.read(memoryview(data), dtype, shape, spec.name, where)
    return replace(value, dtype=dtype) if is_open else value


def _deduced(dims: Dims, count: int, where: str) -> tuple[int, ...]:
    """Return the shape that ``count`` elements must have when at most one size varies."""
    varying = 2 if dims is None else sum(isinstance(dim, str) for dim in dims)
    if dims is None or varying > 1:
        raise InvalidRequest(
            "the shape does not follow from the number of bytes",
            code="missing_shape",
            where=where,
            fix='add "shape": [...] beside "b64"',
        )
    known = element_count([dim for dim in dims if isinstance(dim, int)])
    return tuple(dim if isinstance(dim, int) else (count // known if known else 0) for dim in dims)
