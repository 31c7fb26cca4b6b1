"""Turn TensorFlow Serving's messages into requests, and responses into messages.

Works on bytes and message types alone; the calls themselves are in ``tf_service``. Source of the
format: ``protos/tensorflow_serving.proto``. Names, dtypes and shapes are held against the signature
by the data plane.

A PredictRequest is taken apart by hand, so that its tensors' bytes are not copied, and a
PredictResponse is put together so::

    PredictRequest   =  {2: {1: name, 2: TensorProto}}*  and the rest, which is small
    PredictResponse  =  {1: {1: name, 2: TensorProto}}*  2: ModelSpec
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError, Message

from serving import protobuf
from serving.errors import InvalidRequest
from serving.frontends.fit import check_wanted
from serving.frontends.grpc import tf_tensor
from serving.frontends.grpc.stubs import tensorflow_error_pb2 as error_pb
from serving.frontends.grpc.stubs import tensorflow_serving_pb2 as pb
from serving.frontends.grpc.tf_tensor import Allowance, Sealed
from serving.frontends.tensorflow import target
from serving.frontends.tensorflow.model_status import VersionStatus
from serving.frontends.tensorflow.signatures import FIELD, Signatures
from serving.frontends.tensorflow.target import DEFAULT_SIGNATURE, Target
from serving.frontends.tensorflow.types import BYTES_SUFFIX
from serving.protobuf import Buffer, Malformed, TooManyFields
from serving.request import Description, InferRequest, InferResponse, VersionName
from serving.tensor import ANY, TEXT, Tensor, TensorSpec

HEAVY_BYTES = 64 << 10
"""Work on more than this, element by element, would be felt by others on the same thread."""

MAX_FIELDS = 16384
"""Inputs and wanted outputs of a message: far over any real signature."""

_INPUTS, _OUTPUTS = 2, 1
_KEY, _VALUE = 1, 2
_ENTRY_FIELDS = 8
_STRINGS_TYPE = b"\x08\x07"
"""``dtype: DT_STRING`` as it stands in a tensor's message."""

M = TypeVar("M", bound=Message)


class Parcel(NamedTuple):
    """A PredictRequest: without inputs in ``head``, and its inputs."""

    head: bytes
    inputs: tuple[Sealed, ...]


def parse(kind: type[M], data: bytes) -> M:
    """Return the message of that kind; raises InvalidRequest when the bytes are none."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise _malformed() from None


def unpack(message: Buffer) -> Parcel:
    """Return the parts of a serialised PredictRequest; the inputs are views of it.

    Raises InvalidRequest when it is none.
    """
    try:
        head, entries = protobuf.cut(message, _INPUTS, MAX_FIELDS)
        return Parcel(head, tuple([_sealed(entry) for entry in entries]))
    except TooManyFields:
        raise InvalidRequest(
            "the message has too many fields",
            code="too_many_fields",
            expected=f"at most {MAX_FIELDS}",
        ) from None
    except (Malformed, UnicodeDecodeError):
        raise _malformed() from None


def _sealed(entry: memoryview) -> Sealed:
    """Return a map's entry; of a field that comes more than once, the last counts."""
    rest, values = protobuf.cut(entry, _VALUE, _ENTRY_FIELDS)
    _, keys = protobuf.cut(rest, _KEY, _ENTRY_FIELDS)
    name = bytes(keys[-1]).decode() if keys else ""
    return tf_tensor.seal(name, values[-1] if values else memoryview(b""))


def is_heavy(parcel: Parcel) -> bool:
    """Return whether decoding goes through many elements one by one."""
    listed = len(parcel.head)
    for sealed in parcel.inputs:
        listed += len(sealed.head)
        if sealed.data is not None and _STRINGS_TYPE in bytes(sealed.head[:64]):
            listed += len(sealed.data)
    return listed > HEAVY_BYTES


def target_of(spec: pb.ModelSpec) -> Target:
    """Return what a message asks for.

    Raises InvalidRequest without a name, and NotFound for what no servable or version can be.
    """
    name = target.servable(spec.name, "model_spec.name")
    choice = spec.WhichOneof("version_choice")
    version: VersionName | None = None
    if choice == "version":
        version = target.number(spec.version.value, "model_spec.version")
    elif choice == "version_label":
        version = target.label(spec.version_label, "model_spec.version_label")
    return Target(name, version)


def decode(
    message: pb.PredictRequest,
    inputs: Sequence[Sealed],
    description: Description,
    limit_bytes: int,
    *,
    asked: Target,
    deadline: float | None = None,
    id: str = "",
) -> InferRequest:
    """Return the request; its inputs that lie as in memory are views of the message that came.

    ``message`` is without inputs. Inputs whose last element is repeated may come to ``limit_bytes``
    together. ``deadline`` is monotonic seconds. Strings for an input of any type are text where
    they are UTF-8: TensorFlow has one type for both. Raises InvalidRequest and TooLarge.
    """
    allowance = Allowance(limit_bytes)
    specs = {spec.name: spec for spec in description.signature.inputs}
    names = set()
    for sealed in inputs:
        if sealed.name in names:
            raise InvalidRequest(
                f"input {sealed.name[:80]!r} is given twice", code="duplicate_input", where="inputs"
            )
        names.add(sealed.name)
    try:
        tensors = tuple([tf_tensor.read(sealed, allowance) for sealed in inputs])
    except Malformed:
        raise _malformed() from None
    for tensor in tensors:
        spec = specs.get(tensor.name)
        if spec is not None and spec.dtype is ANY and _is_text(tensor):
            tensor.dtype = TEXT
    return InferRequest(
        description.servable,
        tensors,
        version=asked.version,
        method=description.method or None,
        outputs=_wanted(message.output_filter, description.signature.outputs),
        id=id,
        deadline=deadline,
        generation=description.generation,
    )


def _is_text(tensor: Tensor) -> bool:
    """Return whether strings are text; not those of an input that is bytes by its name."""
    if tensor.items is None or tensor.name.endswith(BYTES_SUFFIX):
        return False
    try:
        for item in tensor.items:
            item.decode()
    except UnicodeDecodeError:
        return False
    return True


def _wanted(given: Sequence[str], specs: Sequence[TensorSpec]) -> tuple[str, ...] | None:
    known = [spec.name for spec in specs]
    for index, name in enumerate(given):
        check_wanted(name, given[:index], known, f"output_filter[{index}]")
    return tuple(given) or None


def encode(response: InferResponse, signature: str) -> bytes:
    """Return a serialised PredictResponse; nothing in it points into the response."""
    parts: list[Buffer] = []
    for tensor in response.outputs:
        name, value = tensor.name.encode(), tf_tensor.write(tensor)
        before = protobuf.prefix(_KEY, len(name)) + name
        before += protobuf.prefix(_VALUE, sum(map(len, value)))
        parts += (protobuf.prefix(_OUTPUTS, len(before) + sum(map(len, value))), before, *value)
    spec = _spec(response.servable, response.version, signature or DEFAULT_SIGNATURE)
    parts.append(pb.PredictResponse(model_spec=spec).SerializeToString())
    return b"".join(parts)


def status(found: Sequence[VersionStatus]) -> bytes:
    """Return a serialised GetModelStatusResponse."""
    message = pb.GetModelStatusResponse()
    for version in found:
        line = message.model_version_status.add(
            version=version.version, state=pb.ModelVersionStatus.State.Value(version.state)
        )
        line.status.error_code = error_pb.Code.Value(version.code)
        line.status.error_message = version.message
    return bytes(message.SerializeToString())


def check_fields(given: Sequence[str]) -> None:
    """Raise InvalidRequest unless the one metadata field there is is asked for."""
    for index, name in enumerate(given):
        if name != FIELD:
            raise InvalidRequest(
                f"there is no metadata {name[:80]!r}",
                code="unknown_field",
                where=f"metadata_field[{index}]",
                expected=repr(FIELD),
            )
    if not given:
        raise InvalidRequest(
            "the request asks for no metadata",
            code="bad_input",
            where="metadata_field",
            expected=repr(FIELD),
        )


def metadata(servable: str, found: Signatures) -> bytes:
    """Return a serialised GetModelMetadataResponse."""
    message = pb.GetModelMetadataResponse(model_spec=_spec(servable, found.version))
    signatures = ParseDict({FIELD: found.by_name}, pb.SignatureDefMap())
    message.metadata[FIELD].Pack(signatures)
    return bytes(message.SerializeToString())


def _spec(servable: str, version: int, signature: str = "") -> pb.ModelSpec:
    spec = pb.ModelSpec(name=servable, signature_name=signature)
    spec.version.value = version
    return spec


def _malformed() -> InvalidRequest:
    return InvalidRequest(
        "the request is not a valid protobuf message of its type",
        code="bad_message",
        fix="generate the client from TensorFlow Serving's .proto files",
    )
