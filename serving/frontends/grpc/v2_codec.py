"""Turn Open Inference Protocol messages into requests, and responses into messages.

Works on bytes and message types alone; the calls themselves are in ``service``. Source of the
format: ``protos/inference_v2.proto`` and the Open Inference Protocol's gRPC part; names of
parameters: Triton's schedule policy, sequence, classification and shared memory extensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from serving.errors import InvalidRequest, did_you_mean
from serving.frontends import (
    fit,
    raw_tensor,
    shape_limits,
    v2_metadata,
    v2_parameters,
    version_name,
)
from serving.frontends.classification import Classes, count_of
from serving.frontends.grpc import contents, rest_parameters, wire
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.frontends.shared_memory import sharing
from serving.frontends.shared_memory.sharing import Shared, Sharing
from serving.repository.triton_effective import config_bytes
from serving.request import Description, InferRequest, InferResponse, VersionName
from serving.tensor import ANY, BY_NAME, BYTES, TEXT, DType, Tensor, TensorSpec

HEAVY_BYTES = 64 << 10
"""Work on more than this, element by element, would be felt by others on the same thread."""

M = TypeVar("M", bound=Message)


def parse(kind: type[M], data: bytes) -> M:
    """Return the message of that kind; raises InvalidRequest when the bytes are none."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise wire.malformed() from None


def to_bytes(message: Message) -> bytes:
    """Return the serialised message."""
    return message.SerializeToString()


def version_number(version: str) -> VersionName | None:
    """Return a message's version, a number or a label, None when it says none.

    Raises NotFound for what can be neither.
    """
    return version_name.read(version, "model_version") if version else None


def is_heavy(parcel: wire.Parcel) -> bool:
    """Return whether decoding goes through many elements one by one.

    Raw numbers are only viewed; strings and typed contents are built element by element. A
    raw tensor of strings can only be there if its datatype is spelled out in the head.
    """
    if len(parcel.head) > HEAVY_BYTES:
        return True
    return sum(map(len, parcel.raw)) > HEAVY_BYTES and b"BYTES" in parcel.head


def decode(
    message: pb.ModelInferRequest,
    raw: tuple[memoryview, ...],
    description: Description,
    *,
    now: float,
    deadline: float | None = None,
    id: str = "",
) -> InferRequest:
    """Return the request; numeric raw inputs are views of ``raw``, in the signature's order.

    ``message`` is without raw contents, which are ``raw``. Inputs that lie in shared memory (see
    ``sharing_of``) are without elements. ``now`` and ``deadline`` (the call's own) are monotonic
    seconds; an earlier one set by the ``timeout`` parameter (µs) wins. ``id`` is the request's, for
    a message without one. Raises InvalidRequest; sizes of axes are left to the data plane.
    """
    version = version_number(message.model_version)
    parameters = v2_parameters.NONE
    if message.parameters:
        given = _scalars(message.parameters)
        rest_parameters.check_request(given, "parameters")
        parameters = v2_parameters.understand(given)
    if parameters.timeout_s is not None:
        limit = now + parameters.timeout_s
        deadline = limit if deadline is None else min(deadline, limit)
    return InferRequest(
        description.servable,
        _inputs(message, raw, description.signature.inputs),
        version=version,
        method=description.method or None,
        outputs=_wanted(message, description.signature.outputs),
        id=message.id or id,
        deadline=deadline,
        priority=parameters.priority,
        sequence=parameters.sequence,
        parameters=parameters.custom,
        generation=description.generation,
    )


def method(message: pb.ModelInferRequest, named: str | None) -> str | None:
    """Return the method that a message asks for: ``named`` in its model's name, or a parameter.

    Raises InvalidRequest when both say different things.
    """
    if "method" not in message.parameters:
        return named
    said = v2_parameters.understand(_scalars(message.parameters)).method
    if said and named is not None and said != named:
        raise v2_parameters.other_method(named, said)
    return said or named


def classes_of(message: pb.ModelInferRequest, description: Description) -> Classes | None:
    """Return which outputs are wanted as classes, None for none; raises InvalidRequest.

    Of a message that ``decode`` has read.
    """
    specs = {spec.name: spec for spec in description.signature.outputs}
    counts: dict[str, int] = {}
    for index, given in enumerate(message.outputs):
        if given.parameters:
            where = f"outputs[{index}].parameters"
            if count := count_of(_scalars(given.parameters), specs[given.name], where):
                counts[given.name] = count
    return Classes(counts, description) if counts else None


def sharing_of(message: pb.ModelInferRequest) -> Sharing | None:
    """Return what a message says of tensors in shared memory, None for nothing."""
    return sharing.given(
        {t.name: found for t in message.inputs if (found := _shared(t.parameters))},
        {t.name: found for t in message.outputs if (found := _shared(t.parameters))},
    )


def encode(
    model: str,
    response: InferResponse,
    shared: Shared | None = None,
    classes: Classes | None = None,
) -> bytes:
    """Return a serialised ModelInferResponse; nothing in it points into the response.

    ``model`` is the name that was asked for. Outputs that have a place in ``shared`` are written
    there; raises InvalidRequest for one that does not fit, or has no ``classes``.
    """
    if classes is not None:
        response = classes.of(response)
    outputs = response.outputs
    start = head(
        model,
        response.version,
        tuple([(t.name, t.dtype.name, t.shape) for t in outputs]),
    )
    if response.id or response.parameters:
        # Serialised messages put end to end are their merger.
        own = pb.ModelInferResponse(id=response.id)
        for name, value in response.parameters.items():
            setattr(own.parameters[name], _choice(value), value)
        start += to_bytes(own)
    if shared is None:
        return wire.join(start, [raw_tensor.write(tensor) for tensor in outputs])
    stored = shared.store(outputs, response.stored)
    message = pb.ModelInferResponse.FromString(start)
    for output in message.outputs:
        for name, value in stored.get(output.name, {}).items():
            setattr(output.parameters[name], _choice(value), value)
    # Clients find raw contents by the place of their output, so every output has an entry.
    raw = [b"" if tensor.name in stored else raw_tensor.write(tensor) for tensor in outputs]
    return wire.join(to_bytes(message), raw)


@lru_cache(maxsize=1024)
def head(model: str, version: int, outputs: tuple[tuple[str, str, tuple[int, ...]], ...]) -> bytes:
    """Return the part of an answer that is the same whenever names and shapes are."""
    tensor = pb.ModelInferResponse.InferOutputTensor
    return to_bytes(
        pb.ModelInferResponse(
            model_name=model,
            model_version=str(version),
            outputs=[
                # Text is a kind of BYTES that only methods tell apart.
                tensor(name=n, datatype="BYTES" if dtype == "TEXT" else dtype, shape=shape)
                for n, dtype, shape in outputs
            ],
        )
    )


def server_metadata(*more: str) -> bytes:
    """Return a serialised ServerMetadataResponse; ``more`` as in ``v2_metadata``."""
    return to_bytes(pb.ServerMetadataResponse(**v2_metadata.server_metadata(*more)))


def model_metadata(document: Mapping[str, Any]) -> bytes:
    """Return a serialised ModelMetadataResponse for a document of ``v2_metadata``."""
    tensor = pb.ModelMetadataResponse.TensorMetadata
    return to_bytes(
        pb.ModelMetadataResponse(
            name=document["name"],
            versions=document["versions"],
            platform=document["platform"],
            inputs=[tensor(**spec) for spec in document["inputs"]],
            outputs=[tensor(**spec) for spec in document["outputs"]],
        )
    )


def model_config(description: Description, model: str) -> bytes:
    """Return a serialised ModelConfigResponse: the settings that a servable runs with."""
    config = config_bytes(v2_metadata.model_config(description, model))
    return to_bytes(pb.ModelConfigResponse(config=config))


def _inputs(
    message: pb.ModelInferRequest, raw: tuple[memoryview, ...], specs: tuple[TensorSpec, ...]
) -> tuple[Tensor, ...]:
    values = _values(message, raw)
    known = {spec.name: spec for spec in specs}
    tensors: dict[str, Tensor] = {}
    for index, given in enumerate(message.inputs):
        name = given.name
        spec = known.get(name)
        if spec is None:
            fit.check_names({name}, specs, f"inputs[{index}]")
            raise AssertionError("an unknown input passed the check of names")
        if name in tensors:
            raise InvalidRequest(
                f"input {name!r} is given twice", code="duplicate_input", where="inputs"
            )
        tensors[name] = _input(given, values[index], spec)
    if len(tensors) != len(known):
        fit.check_names(set(tensors), specs, "inputs")
    return tuple([tensors[name] for name in known])


def _values(
    message: pb.ModelInferRequest, raw: tuple[memoryview, ...]
) -> Sequence[memoryview | None]:
    """Return the raw contents for each input, None for one that has none."""
    if not raw:
        return (None,) * len(message.inputs)
    if not any(given.parameters for given in message.inputs):
        taken: Sequence[bool] = (True,) * len(message.inputs)
    else:
        taken = [not _shared(given.parameters) for given in message.inputs]
    if len(raw) != sum(taken):
        for given in message.inputs:
            _check_no_typed_contents(given)
        raise InvalidRequest(
            "raw_input_contents does not go with inputs",
            code="wrong_count",
            where="raw_input_contents",
            expected=f"{sum(taken)} entries, one for each input",
            given=str(len(raw)),
        )
    left = iter(raw)
    return [next(left) if own else None for own in taken]


def _input(
    given: pb.ModelInferRequest.InferInputTensor, data: memoryview | None, spec: TensorSpec
) -> Tensor:
    name, dtype = spec.name, spec.dtype
    where = f"inputs.{name}"
    if given.parameters:
        scalars = _scalars(given.parameters)
        v2_parameters.refuse_input_parameters(scalars, f"{where}.parameters")
        rest_parameters.check_input(scalars, data, f"{where}.parameters")
    if dtype is ANY:
        return _open_input(given, data, name, where)
    if given.datatype != dtype.name:
        raise _wrong_dtype(given.datatype, spec, f"{where}.datatype")
    return _typed_input(given, data, dtype, name, where)


def _open_input(
    given: pb.ModelInferRequest.InferInputTensor, data: memoryview | None, name: str, where: str
) -> Tensor:
    """Return an input of any type: of the one that the client names, TEXT if it says so."""
    tensor = _typed_input(given, data, fit.named_dtype(given.datatype, where), name, where)
    if tensor.dtype is BYTES and v2_parameters.says_text(_scalars(given.parameters)):
        fit.check_text(tensor.items or (), where)
        return Tensor(name, TEXT, tensor.shape, items=tensor.items)
    return tensor


def _typed_input(
    given: pb.ModelInferRequest.InferInputTensor,
    data: memoryview | None,
    dtype: DType,
    name: str,
    where: str,
) -> Tensor:
    shape = shape_limits.checked(given.shape, where)
    if given.parameters and _shared(given.parameters):
        if given.contents.ListFields():
            raise InvalidRequest(
                "an input in shared memory has no other data",
                code="mixed_contents",
                where=f"{where}.contents",
            )
        return Tensor(name, dtype, shape)
    if data is None:
        return contents.read(given.contents, dtype, shape, name, f"{where}.contents")
    _check_no_typed_contents(given)
    value = raw_tensor.read(data, dtype, shape, name, where)
    return Tensor(name, dtype, shape, value.array, value.items)


def _check_no_typed_contents(given: pb.ModelInferRequest.InferInputTensor) -> None:
    # MLServer's client leaves an empty message where the contents would be.
    if given.contents.ListFields():
        raise InvalidRequest(
            "raw and typed contents are mixed",
            code="mixed_contents",
            where=f"inputs.{given.name[:80]}.contents",
            fix="send all inputs in raw_input_contents, or all in their contents",
        )


def _wrong_dtype(given: str, spec: TensorSpec, where: str) -> InvalidRequest:
    return InvalidRequest(
        f"input {spec.name!r} has another datatype",
        code="wrong_dtype",
        where=where,
        expected=spec.dtype.name,
        given=repr(given[:40]),
        fix="" if given in BY_NAME else did_you_mean(given[:40], BY_NAME),
    )


def _wanted(message: pb.ModelInferRequest, specs: tuple[TensorSpec, ...]) -> tuple[str, ...] | None:
    if not message.outputs:
        return None
    known = [spec.name for spec in specs]
    names: list[str] = []
    for index, given in enumerate(message.outputs):
        name, where = given.name, f"outputs[{index}]"
        fit.check_wanted(name, names, known, where)
        if given.parameters:
            rest_parameters.check_output(_scalars(given.parameters), f"{where}.parameters")
        names.append(name)
    return tuple(names)


def _shared(given: Mapping[str, pb.InferParameter]) -> dict[str, v2_parameters.Scalar]:
    """Return those of a tensor's parameters that are about shared memory."""
    return sharing.of(_scalars(given)) if given else {}


def _scalars(given: Mapping[str, pb.InferParameter]) -> dict[str, v2_parameters.Scalar]:
    """Return parameters by name; one whose value is not set counts as not given."""
    found: dict[str, v2_parameters.Scalar] = {}
    for name, parameter in given.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(parameter, choice)
    return found


def _choice(value: object) -> str:
    """Return the field of an InferParameter for a response's parameter."""
    if isinstance(value, bool):
        return "bool_param"
    if isinstance(value, int):
        return "int64_param" if value < 2**63 else "uint64_param"
    if isinstance(value, float):
        return "double_param"
    if isinstance(value, str):
        return "string_param"
    raise TypeError(f"a parameter of type {type(value).__name__} has no form on the wire")
