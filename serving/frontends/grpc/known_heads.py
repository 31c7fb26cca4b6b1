"""Requests whose message, without the tensors' bytes, was seen before.

Clients repeat it byte for byte: model, names, datatypes and shapes. What was found out about it
once holds as long as the model's description is the same object, so that only bytes and shapes
are left to compare.
"""

from __future__ import annotations

from typing import NamedTuple

from serving.frontends import raw_tensor
from serving.frontends.grpc import wire
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.frontends.grpc.v2_rows import V2Rows
from serving.request import Description, InferRequest, VersionName

_MOST = 1024
_LONGEST_BYTES = 4096


class Known(NamedTuple):
    """What a head says: all of a request but values, id and deadline.

    ``model`` is the name that it asks for, ``target`` what that stands for: servable, version and
    method. With ``rows`` such messages may go together.
    """

    model: str
    target: tuple[str, VersionName | None, str | None]
    description: Description
    inputs: tuple[raw_tensor.Look, ...]
    outputs: tuple[str, ...] | None
    rows: V2Rows | None

    def request(
        self, raw: tuple[memoryview, ...], deadline: float | None, id: str
    ) -> InferRequest | None:
        """Return the request with these values, None when they do not go with the head.

        Raises InvalidRequest when a value has not the bytes that its shape takes.
        """
        if len(raw) != len(self.inputs):
            return None
        return InferRequest(
            self.description.servable,
            tuple([look.read(data) for look, data in zip(self.inputs, raw, strict=True)]),
            version=self.target[1],
            method=self.target[2],
            outputs=self.outputs,
            id=id,
            deadline=deadline,
            generation=self.description.generation,
        )


class KnownHeads:
    """The heads that one server remembers; any thread may ask (each call is one dict operation)."""

    def __init__(self) -> None:
        self._known: dict[bytes, Known] = {}
        # By the length of the message: all that stands before its one tensor, and the head of that.
        self._starts: dict[int, tuple[bytes, bytes]] = {}

    def split(self, message: bytes | memoryview) -> wire.Parcel:
        """Return what ``wire.split`` does, without reading what begins as a message before."""
        known = self._starts.get(len(message))
        if known is not None:
            start, head = known
            if message[: len(start)] == start:
                return wire.Parcel(head, (memoryview(message)[len(start) :],))
        return wire.split(message)

    def find(self, parcel: wire.Parcel) -> Known | None:
        """Return what is known of a message's head, if anything."""
        return self._known.get(parcel.head)

    def learn(
        self,
        parcel: wire.Parcel,
        message: pb.ModelInferRequest,
        description: Description,
        request: InferRequest,
    ) -> None:
        """Remember the head of a message that ``request`` was decoded from.

        Ids and parameters differ from call to call, and typed contents are values. That the size
        of strings is what a parameter says was looked at for these strings alone.
        """
        if message.id or message.parameters or len(parcel.head) > _LONGEST_BYTES:
            return
        if not parcel.raw or len(parcel.raw) != len(request.inputs):
            return
        # The raw values stand in the message's order, the request's in the signature's.
        by_name = {tensor.name: tensor for tensor in request.inputs}
        inputs = tuple([by_name[given.name] for given in message.inputs])
        sized = (t for t in message.inputs if "binary_data_size" in t.parameters)
        if any(by_name[given.name].items is not None for given in sized):
            return
        if len(self._known) >= _MOST:
            self._known.clear()
            self._starts.clear()
        if len(parcel.raw) == 1:
            start = parcel.head + wire.before_raw_input(len(parcel.raw[0]))
            # Nothing else may stand before the tensor or behind it.
            if bytes(parcel.raw[0].obj) == start + parcel.raw[0]:
                self._starts[len(start) + len(parcel.raw[0])] = start, parcel.head
        what = (
            message.model_name,
            (request.servable, request.version, request.method),
            description,
            tuple([raw_tensor.Look.of(tensor) for tensor in inputs]),
            request.outputs,
        )
        self._known[parcel.head] = Known(*what, V2Rows.of(*what))
