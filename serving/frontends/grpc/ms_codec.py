"""Turn MindSpore Serving's messages into instances, and outcomes into its replies.

Works on bytes and message types alone; the call itself is in ``ms_service``. Source of the
format: ``protos/ms_service.proto``. What both of its wire formats share is in
``serving.frontends.mindspore``.

A reply is written by hand around the tensors' bytes, which are copied once::

    PredictReply  =  spec and errors (protobuf)  {3: Instance}*
    Instance      =  {1: {1: name, 2: Tensor}}*
    Tensor        =  shape and type (protobuf)  3: data   or   {4: string}*   or   5: place
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from serving import protobuf
from serving.errors import InvalidRequest, ServingError, Unimplemented
from serving.frontends.grpc.ms_memory import Memory
from serving.frontends.grpc.stubs import ms_service_pb2 as pb
from serving.frontends.mindspore import instances, outputs, types
from serving.frontends.mindspore.failures import Failure, verdict
from serving.frontends.mindspore.instances import MAX_INSTANCES, Common, Typed
from serving.frontends.mindspore.outputs import Output
from serving.frontends.mindspore.runs import Outcome
from serving.frontends.mindspore.target import Target
from serving.frontends.mindspore.types import MsType
from serving.frontends.shape_limits import MAX_RANK
from serving.request import Description, InferRequest
from serving.tensor import BOOL, BYTES

HEAVY_BYTES = 64 << 10
"""Messages beyond this are decoded, and strings written, where others do not wait for it."""

_GIVEN = 2
_INSTANCES, _ITEMS, _DATA, _STRINGS, _PLACE = 3, 1, 3, 4, 5
_KEY, _VALUE = 1, 2
_STRINGY = (types.STRING.number, types.RAW.number)

Part = bytes | memoryview


class Unreadable(InvalidRequest):
    """The bytes are no PredictRequest."""


def parse(data: bytes) -> pb.PredictRequest:
    """Return the message; raises Unreadable, and InvalidRequest for one of too many instances.

    A large message is counted before it is parsed: an empty instance takes 2 bytes of it, and
    many more once it is an object.
    """
    try:
        if len(data) > HEAVY_BYTES:
            protobuf.cut(data, _GIVEN, MAX_INSTANCES + 1)  # and one for the servable_spec
        return pb.PredictRequest.FromString(data)
    except protobuf.TooManyFields:
        raise InvalidRequest(
            "the message has too many instances",
            code="too_many_fields",
            expected=f"at most {MAX_INSTANCES}",
        ) from None
    except (DecodeError, protobuf.Malformed):
        raise Unreadable("Unable to parse request", code="bad_message") from None


def target(message: pb.PredictRequest) -> Target:
    """Return what a message asks for."""
    spec = message.servable_spec
    return Target(spec.name, spec.method_name, spec.version_number)


def shares(message: pb.PredictRequest) -> bool:
    """Return whether tensors of a message lie in shared memory, or are to be put there."""
    return any(
        instance.output_buffers or any(t.HasField("shm_data") for t in instance.items.values())
        for instance in message.instances
    )


def decode(
    message: pb.PredictRequest,
    target: Target,
    description: Description,
    common: Common,
    memory: Memory | None = None,
) -> tuple[InferRequest | ServingError, ...]:
    """Return a request for each instance, or the error of one that the model cannot take.

    Raises InvalidRequest for what is wrong with the message itself, and for tensors in shared
    memory what ``memory`` raises; without it Unimplemented, as a client must not make this server
    open objects by name.
    """
    for instance in message.instances:
        if not instance.output_buffers:
            continue
        if memory is None:
            raise _shared_memory("leave output_buffers out: outputs come in the reply")
        for place in instance.output_buffers.values():
            memory.check(place)
    items = [instance.items for instance in message.instances]
    read = _read if memory is None else partial(_read, memory=memory)
    return instances.requests(target, description, items, read, common)


def encode(
    message: pb.PredictRequest,
    target: Target,
    description: Description,
    outcomes: Sequence[Outcome],
    memory: Memory | None = None,
) -> bytes:
    """Return a serialised PredictReply; nothing in it points into the responses.

    With ``memory`` outputs are put into their ``output_buffers``, where they have any.
    """
    if memory is not None:
        return _encode_shared(message, target, description, outcomes, memory)
    return write(spec(message), target, description, outcomes)


def write(
    spec: bytes, target: Target, description: Description, outcomes: Sequence[Outcome]
) -> bytes:
    """Return what ``encode`` does to a message of this ``spec``."""
    failures = verdict(outcomes, target)
    parts: list[Part] = [spec, _errors(failures)]
    if len(failures) != 1:
        for outcome in outcomes:
            if isinstance(outcome, ServingError):
                parts += _field(_INSTANCES, [])
            else:
                parts += _instance(outputs.of(outcome, description))
    return b"".join(parts)


def spec(message: pb.PredictRequest) -> bytes:
    """Return what a message asks for as the beginning of its reply: field 1, serialised."""
    if not message.HasField("servable_spec"):
        return b""
    return bytes(pb.PredictReply(servable_spec=message.servable_spec).SerializeToString())


def _encode_shared(
    message: pb.PredictRequest,
    target: Target,
    description: Description,
    outcomes: Sequence[Outcome],
    memory: Memory,
) -> bytes:
    ends: list[Outcome] = []
    parts: list[Part] = []
    for given, outcome in zip(message.instances, outcomes, strict=True):
        instance: list[Part] = []
        end = outcome
        if not isinstance(outcome, ServingError):
            places = dict(given.output_buffers.items())
            try:
                for output in outputs.of(outcome, description):
                    place = _stored(output, places.get(output.name), memory)
                    instance += _field(_ITEMS, _entry(output, place))
            except InvalidRequest as error:  # its place is too small, or was taken away
                end, instance = error, []
        ends.append(end)
        parts += _field(_INSTANCES, instance)
    failures = verdict(ends, target)
    head = spec(message), _errors(failures)
    return b"".join([*head, *(parts if len(failures) != 1 else ())])


def _stored(output: Output, place: pb.ShmTensorData | None, memory: Memory) -> bytes:
    """Write an output to its place; return what the reply says of it, empty without a place."""
    if place is None:
        return b""
    if output.array is None:
        raise InvalidRequest(f"Output {output.name} is text, which has no place in shared memory")
    return memory.write(place, np.ascontiguousarray(output.array).reshape(-1).view(np.uint8).data)


def refusal(spec: bytes, failure: Failure) -> bytes:
    """Return the reply to a request of this ``spec`` that failed as a whole."""
    return spec + _errors((failure,))


def _read(name: str, tensor: Any, memory: Memory | None = None) -> Typed:
    """Return an input's value, a view of the message; raises InvalidRequest or Unimplemented."""
    is_shared = tensor.HasField("shm_data")
    if is_shared and memory is None:
        raise _shared_memory("send the elements in 'data'")
    if len(tensor.shape.dims) > MAX_RANK:
        raise _bad(name, f"Tensor check failed: input  shape of more than {MAX_RANK} axes invalid")
    shape = tuple(tensor.shape.dims)
    if tensor.dtype in _STRINGY:
        return _read_string(name, types.BY_NUMBER[tensor.dtype], shape, tensor.bytes_val)
    if any(size < 0 for size in shape) or 0 in shape[:-1]:
        raise _bad(name, f"Tensor check failed: input  shape {list(shape)} invalid")
    kind = types.BY_NUMBER.get(tensor.dtype)
    if kind is None:
        number = "MS_UNKNOWN" if tensor.dtype == pb.MS_UNKNOWN else str(tensor.dtype)
        raise _bad(name, f"Tensor check failed: input data type proto::{number} invalid")
    data = tensor.data
    if is_shared:
        assert memory is not None
        data = memory.read(tensor.shm_data)
    if len(data) != math.prod(shape) * kind.dtype.itemsize:
        raise _bad(name, f"Tensor check failed: input data size {len(data)} invalid")
    if kind.dtype is BOOL and bytes(data).strip(b"\0\1"):
        raise _bad(name, "Tensor check failed: a bool is neither 0 nor 1")
    return Typed(kind, shape, instances.flat(data, kind.dtype))


def _read_string(name: str, kind: MsType, shape: tuple[int, ...], values: Any) -> Typed:
    check = "Instance tensor check failed: bytes or string type "
    if len(values) != 1:
        raise _bad(name, f"{check}shape batch size can only be 1")
    if shape not in ((), (1,)):
        given = f"but given shape is {list(shape)}"
        raise _bad(name, f"{check}input  shape can only be (1,) or empty, {given}")
    item = bytes(values[0])
    if kind is types.STRING:
        try:
            item.decode()
        except UnicodeDecodeError:
            raise _bad(name, "Tensor check failed: a string is not UTF-8") from None
    return Typed(kind, shape, None, item)


def _bad(name: str, detail: str) -> InvalidRequest:
    return InvalidRequest(f"Instances input {name[:255]} check failed, detail: {detail}")


def _shared_memory(fix: str) -> Unimplemented:
    return Unimplemented("Shared memory is not opened by this server", fix=fix)


def _errors(failures: Sequence[Failure]) -> bytes:
    if not failures:
        return b""
    reply = pb.PredictReply(
        error_msg=[pb.ErrorMsg(error_code=code, error_msg=_text(text)) for code, text in failures]
    )
    return bytes(reply.SerializeToString())


def _text(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _instance(found: Sequence[Output]) -> list[Part]:
    """Return an instance of a reply; of numbers, what stands between them was written before."""
    if not all(output.array is not None and output.array.size for output in found):
        entries = [part for output in found for part in _field(_ITEMS, _entry(output))]
        return _field(_INSTANCES, entries)
    looks = tuple([(o.name, o.type.number, o.shape) for o in found])
    parts: list[Part] = []
    for start, output in zip(starts(looks), found, strict=True):
        assert output.array is not None
        parts += (start, output.array.tobytes())
    return parts or _field(_INSTANCES, [])


@lru_cache(maxsize=1024)
def starts(looks: tuple[tuple[str, int, tuple[int, ...]], ...]) -> tuple[bytes, ...]:
    """Return what stands before the elements of each output, given its name, type and shape."""
    written: list[bytes] = []
    total = 0
    for name, number, shape in looks:
        size = math.prod(shape) * types.BY_NUMBER[number].dtype.itemsize
        tensor = _shape_and_type(shape, number) + protobuf.prefix(_DATA, size)
        key = b"".join(_field(_KEY, [name.encode()]))
        value = protobuf.prefix(_VALUE, len(tensor) + size) + tensor
        item = protobuf.prefix(_ITEMS, len(key) + len(value) + size) + key + value
        written.append(item)
        total += len(item) + size
    if written:
        written[0] = protobuf.prefix(_INSTANCES, total) + written[0]
    return tuple(written)


def _entry(output: Output, place: bytes = b"") -> list[Part]:
    return [*_field(_KEY, [output.name.encode()]), *_field(_VALUE, _tensor(output, place))]


def _tensor(output: Output, place: bytes) -> list[Part]:
    parts: list[Part] = [_shape_and_type(output.shape, output.type.number)]
    if place:
        parts += _field(_PLACE, [place])
    elif output.type.dtype is BYTES:
        for item in output.items:
            parts += _field(_STRINGS, [item])
    elif output.array is not None and output.array.size:
        parts += _field(_DATA, [output.array.tobytes()])
    return parts


@lru_cache(maxsize=1024)
def _shape_and_type(shape: tuple[int, ...], number: int) -> bytes:
    tensor = pb.Tensor(shape=pb.TensorShape(dims=shape), dtype=pb.DataType.Name(number))
    return bytes(tensor.SerializeToString())


def _field(number: int, parts: list[Part]) -> list[Part]:
    return [protobuf.prefix(number, sum(map(len, parts))), *parts]
