"""Turn Open Inference Protocol messages into requests, and responses into messages.

Works on bytes and message types alone; the calls themselves are in ``service``. Source of the
format: ``protos/inference_v2.proto`` and the Open Inference Protocol's gRPC part; names of
parameters: Triton's schedule policy, sequence, classification and shared memory extensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from serving.errors import InvalidRequest, NotFound, did_you_mean, listing
from serving.frontends import fit, raw_tensor, shape_limits, v2_metadata, v2_parameters
from serving.frontends.grpc import contents, wire
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.repository.triton_effective import config_bytes
from serving.request import Description, InferRequest, InferResponse
from serving.tensor import BY_NAME, Tensor, TensorSpec

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


def version_number(version: str) -> int | None:
    """Return a message's version, None when it says none; raises NotFound for a bad one."""
    if not version:
        return None
    if version.isascii() and version.isdigit() and len(version) <= 18 and int(version) > 0:
        return int(version)
    raise NotFound(
        f"there is no version {version[:40]!r}",
        code="unknown_version",
        where="model_version",
        expected="a positive integer, or nothing for the default version",
    )


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

    ``message`` is without raw contents, which are ``raw``. ``now`` and ``deadline`` (the
    call's own) are monotonic seconds; an earlier one set by the ``timeout`` parameter (µs)
    wins. ``id`` is the request's, for a message without one. Raises InvalidRequest
    and Unimplemented; sizes of axes are left to the data plane.
    """
    version = version_number(message.model_version)
    parameters = v2_parameters.NONE
    if message.parameters:
        given = _scalars(message.parameters)
        _refuse_rest_parameters(given, "parameters")
        parameters = v2_parameters.understand(given)
    if parameters.timeout_s is not None:
        limit = now + parameters.timeout_s
        deadline = limit if deadline is None else min(deadline, limit)
    return InferRequest(
        description.servable,
        _inputs(message, raw, description.signature.inputs),
        version=version,
        outputs=_wanted(message, description.signature.outputs),
        id=message.id or id,
        deadline=deadline,
        priority=parameters.priority,
        sequence=parameters.sequence,
        parameters=parameters.custom,
        generation=description.generation,
    )


def encode(response: InferResponse) -> bytes:
    """Return a serialised ModelInferResponse; nothing in it points into the response."""
    outputs = response.outputs
    head = _head(
        response.servable,
        response.version,
        tuple([(t.name, t.dtype.name, t.shape) for t in outputs]),
    )
    if response.id or response.parameters:
        # Serialised messages put end to end are their merger.
        own = pb.ModelInferResponse(id=response.id)
        for name, value in response.parameters.items():
            setattr(own.parameters[name], _choice(value), value)
        head += to_bytes(own)
    return wire.join(head, [raw_tensor.write(tensor) for tensor in outputs])


@lru_cache(maxsize=1024)
def _head(
    servable: str, version: int, outputs: tuple[tuple[str, str, tuple[int, ...]], ...]
) -> bytes:
    """Return the part of an answer that is the same whenever names and shapes are."""
    tensor = pb.ModelInferResponse.InferOutputTensor
    return to_bytes(
        pb.ModelInferResponse(
            model_name=servable,
            model_version=str(version),
            outputs=[tensor(name=n, datatype=dtype, shape=shape) for n, dtype, shape in outputs],
        )
    )


def server_metadata() -> bytes:
    """Return a serialised ServerMetadataResponse."""
    return to_bytes(pb.ServerMetadataResponse(**v2_metadata.server_metadata()))


def model_metadata(description: Description) -> bytes:
    """Return a serialised ModelMetadataResponse; sizes that vary are -1."""
    document = v2_metadata.model_metadata(description)
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


def model_config(description: Description) -> bytes:
    """Return a serialised ModelConfigResponse: the settings that a servable runs with."""
    config = config_bytes(v2_metadata.model_config(description))
    return to_bytes(pb.ModelConfigResponse(config=config))


def _inputs(
    message: pb.ModelInferRequest, raw: tuple[memoryview, ...], specs: tuple[TensorSpec, ...]
) -> tuple[Tensor, ...]:
    if raw and len(raw) != len(message.inputs):
        raise InvalidRequest(
            "raw_input_contents does not go with inputs",
            code="wrong_count",
            where="raw_input_contents",
            expected=f"{len(message.inputs)} entries, one for each input",
            given=str(len(raw)),
        )
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
        tensors[name] = _input(given, raw[index] if raw else None, spec)
    if len(tensors) != len(known):
        fit.check_names(set(tensors), specs, "inputs")
    return tuple([tensors[name] for name in known])


def _input(
    given: pb.ModelInferRequest.InferInputTensor, data: memoryview | None, spec: TensorSpec
) -> Tensor:
    name, dtype = spec.name, spec.dtype
    where = f"inputs.{name}"
    if given.parameters:
        _refuse_tensor_parameters(given.parameters, f"{where}.parameters")
    if given.datatype != dtype.name:
        raise _wrong_dtype(given.datatype, spec, f"{where}.datatype")
    shape = shape_limits.checked(given.shape, where)
    if data is None:
        return contents.read(given.contents, dtype, shape, name, f"{where}.contents")
    if given.HasField("contents"):
        raise InvalidRequest(
            "raw and typed contents are mixed",
            code="mixed_contents",
            where=f"{where}.contents",
            fix="send all inputs in raw_input_contents, or all in their contents",
        )
    value = raw_tensor.read(data, dtype, shape, name, where)
    return Tensor(name, dtype, shape, value.array, value.items)


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
        if name in names:
            raise InvalidRequest(
                f"output {name!r} is asked for twice", code="duplicate_output", where=where
            )
        if name not in known:
            raise InvalidRequest(
                f"output {name[:80]!r} is not known",
                code="unknown_output",
                where=where,
                expected=listing(known),
                fix=did_you_mean(name[:80], known),
            )
        if given.parameters:
            _refuse_tensor_parameters(given.parameters, f"{where}.parameters")
        names.append(name)
    return tuple(names)


def _refuse_tensor_parameters(given: Mapping[str, pb.InferParameter], where: str) -> None:
    scalars = _scalars(given)
    # A client that always writes the parameter says with 0 that it wants the plain output.
    if scalars.get("classification") == 0:
        del scalars["classification"]
    v2_parameters.refuse_tensor_parameters(scalars, where)
    _refuse_rest_parameters(scalars, where)


def _refuse_rest_parameters(given: Mapping[str, v2_parameters.Scalar], where: str) -> None:
    for name in ("binary_data", "binary_data_output", "binary_data_size"):
        if name in given:
            raise InvalidRequest(
                f"parameter {name!r} belongs to the REST side of the protocol",
                code="bad_parameter",
                where=f"{where}.{name}",
                fix="leave it out: over gRPC outputs are always raw, inputs raw or typed",
            )


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
