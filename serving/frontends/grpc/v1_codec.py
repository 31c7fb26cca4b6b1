"""Turn messages of ``serving.v1`` into requests, and responses into messages.

Works on bytes and message types alone; the calls themselves are in ``v1_service``. Source of the
format: ``protos/serving_v1.proto``. Names, dtypes and shapes are held against the signature by
the data plane.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from serving.errors import InvalidRequest, NotFound, did_you_mean, listing
from serving.frontends import fit, raw_tensor, shape_limits, version_name
from serving.protobuf import Malformed
from serving.request import Description, InferRequest, InferResponse, VersionName
from serving.tensor import TEXT, DType, Tensor, element_count, shape_text
from serving.v1 import tensors
from serving.v1.stubs import serving_v1_pb2 as pb
from serving.v1.tensors import Parcel, Sealed

HEAVY_BYTES = 64 << 10
"""Strings of more than this in all would be felt by others on the same thread."""

_MAX_NAME = 255
_MAX_PRIORITY = 2**31 - 1

M = TypeVar("M", bound=Message)


def parse(kind: type[M], data: bytes) -> M:
    """Return the message of that kind; raises InvalidRequest when the bytes are none."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise _malformed() from None


def unpack(data: bytes) -> Parcel:
    """Return the parts of a serialised PredictRequest; raises InvalidRequest when it is none."""
    try:
        return tensors.unpack(data, tensors.REQUEST_INPUTS)
    except Malformed:
        raise _malformed() from None


def is_heavy(parcel: Parcel) -> bool:
    """Return whether decoding goes through many elements one by one: numbers are only viewed."""
    return len(parcel.head) + sum(len(tensor.head) for tensor in parcel.tensors) > HEAVY_BYTES


def target(message: Any) -> tuple[str | None, VersionName | None]:
    """Return servable and version that a message asks for; None where it leaves them open.

    Raises NotFound for what no servable or version can be, InvalidRequest for two versions.
    """
    name, version, label = message.servable, message.version, message.label
    if len(name) > _MAX_NAME:
        raise NotFound(
            f"no servable is called {name[:40]!r}...", code="unknown_servable", where="servable"
        )
    if version < 0:
        raise NotFound(
            f"there is no version {version}",
            code="unknown_version",
            where="version",
            expected="a positive number, or 0 for the preferred version",
        )
    if label:
        if version:
            raise InvalidRequest("the request names a version and a label", where="label")
        return name or None, version_name.read(label, "label")
    return name or None, version or None


def decode(
    message: pb.PredictRequest,
    inputs: Sequence[Sealed],
    description: Description,
    *,
    deadline: float | None = None,
    id: str = "",
) -> InferRequest:
    """Return the request; its numeric inputs are views of the message that came.

    ``message`` is without inputs. ``deadline`` is monotonic seconds; ``id`` is the request's,
    for a message without one. Raises InvalidRequest.
    """
    return InferRequest(
        description.servable,
        tuple([_input(sealed, index) for index, sealed in enumerate(inputs)]),
        version=message.label or message.version or None,
        method=description.method or None,
        outputs=tuple(message.outputs) or None,
        id=message.id or id,
        deadline=deadline,
        priority=min(message.priority, _MAX_PRIORITY),
        generation=description.generation,
    )


def encode(response: InferResponse, description: Description) -> bytes:
    """Return a serialised PredictResponse; nothing in it points into the response."""
    head = pb.PredictResponse(
        servable=response.servable, version=response.version, id=response.id
    ).SerializeToString()
    documents = {spec.name for spec in description.signature.outputs if spec.json}
    outputs = [(tensor, tensor.name in documents) for tensor in response.outputs]
    return tensors.pack(head, tensors.RESPONSE_OUTPUTS, outputs)


def listed(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a serialised ListResponse for the data plane's rows."""
    version = pb.ListResponse.Version
    message = pb.ListResponse(
        versions=[
            version(
                servable=row["name"],
                version=row["version"] or 0,
                state=row["state"],
                reason=row["reason"],
            )
            for row in rows
        ]
    )
    return bytes(message.SerializeToString())


def _input(sealed: Sealed, index: int) -> Tensor:
    try:
        message, data = sealed.open()
    except Malformed:
        raise _malformed() from None
    name = message.name
    where = f"inputs.{name[:_MAX_NAME]}" if name else f"inputs[{index}]"
    dtype = tensors.DTYPES.get(message.dtype)
    if dtype is None:
        raise InvalidRequest(
            f"{message.dtype[:40]!r} is no dtype" if message.dtype else "the dtype is missing",
            code="unknown_dtype",
            where=f"{where}.dtype",
            expected=f"one of {listing(tensors.DTYPES, len(tensors.DTYPES))}",
            fix=did_you_mean(message.dtype[:40].upper(), tensors.DTYPES),
        )
    shape = shape_limits.checked(message.shape, where)
    if dtype.is_bytes:
        return _strings(message, data, dtype, shape, where)
    if message.items:
        raise _wrong_field(f"{where}.items", f"the elements of {dtype.name} in data")
    value = raw_tensor.read(data, dtype, shape, name, where)
    return Tensor(name, dtype, shape, value.array)


def _strings(
    message: pb.Tensor, data: memoryview, dtype: DType, shape: tuple[int, ...], where: str
) -> Tensor:
    if len(data):
        raise _wrong_field(f"{where}.data", f"the elements of {dtype.name} in items")
    items = list(message.items)
    if len(items) != element_count(shape):
        raise InvalidRequest(
            "the number of elements does not match the shape",
            code="wrong_size",
            where=where,
            expected=f"{element_count(shape)} items for {dtype.name}{shape_text(shape)}",
            given=str(len(items)),
        )
    if dtype is TEXT:
        fit.check_text(items, where)
    return Tensor(message.name, dtype, shape, items=items)


def _wrong_field(where: str, expected: str) -> InvalidRequest:
    return InvalidRequest(
        "the elements are in the wrong field", code="wrong_field", where=where, expected=expected
    )


def _malformed() -> InvalidRequest:
    return InvalidRequest(
        "the request is not a valid protobuf message of its type",
        code="bad_message",
        fix="generate the client from this server's serving_v1.proto",
    )
