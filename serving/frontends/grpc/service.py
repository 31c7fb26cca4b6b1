"""The calls of ``inference.GRPCInferenceService``: bytes in, data plane, bytes out.

Handlers take and give serialised messages: no per-call protobuf objects beyond what is needed.
"""

from __future__ import annotations

import time
from functools import partial
from typing import NamedTuple

from serving.dataplane import DataPlane
from serving.errors import NotFound, Unavailable
from serving.frontends import v2_metadata, v2_statistics
from serving.frontends.classification import Classes
from serving.frontends.grpc import v2_codec, wire
from serving.frontends.grpc.calls import REQUEST_ID, Inference, request_id, unary
from serving.frontends.grpc.exchange import Exchange
from serving.frontends.grpc.gathering import Gatherings
from serving.frontends.grpc.known_heads import Known, KnownHeads
from serving.frontends.grpc.memory_calls import MemoryCalls
from serving.frontends.grpc.methods import Context, DirectContext, Finish, Methods, Running
from serving.frontends.grpc.refused_calls import refused_calls
from serving.frontends.grpc.repository_calls import RepositoryCalls
from serving.frontends.grpc.status import outcome
from serving.frontends.grpc.stream_infer import StreamInfer
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.frontends.method import of_model, split
from serving.frontends.shared_memory import gate
from serving.frontends.shared_memory.gate import EXTENSION
from serving.frontends.shared_memory.regions import Regions
from serving.frontends.shared_memory.sharing import ON_LOOP_BYTES, Shared, Sharing
from serving.request import Description, Elsewhere, InferRequest

NAME = "inference.GRPCInferenceService"


class _Decoded(NamedTuple):
    """The name of the model that was asked for, the request, and what it shares."""

    model: str
    request: InferRequest
    description: Description
    sharing: Sharing | None = None
    classes: Classes | None = None


class InferenceService:
    """Answers the protocol's calls from a data plane; owned by ``GrpcFrontEnd``."""

    def __init__(
        self, plane: DataPlane, inference: Inference, regions: Regions | None = None
    ) -> None:
        self._plane = plane
        self._inference = inference
        self._regions = regions
        self._heads = KnownHeads()
        self._gatherings = Gatherings(inference, self._begin_alone)

    def methods(self) -> Methods:
        """Return what an engine offers, by path."""
        calls = {
            "ModelInfer": self._model_infer,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelReady": self._model_ready,
            "ModelStatistics": self._model_statistics,
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            **RepositoryCalls(self._plane).calls(),
            **MemoryCalls(self._regions).calls(),
            **refused_calls(),
        }
        direct = {"ModelInfer": self._begin_infer}
        methods = unary(NAME, calls, outcome, self._plane, direct, views=direct)
        self._stream = StreamInfer(methods[f"/{NAME}/ModelInfer"].behaviour)
        return {**methods, f"/{NAME}/ModelStreamInfer": self._stream.method()}

    def drain(self) -> None:
        """Let calls that stay open end, once what they have asked is answered."""
        self._stream.drain()

    async def _server_live(self, _data: bytes, _context: Context) -> bytes:
        return v2_codec.to_bytes(pb.ServerLiveResponse(live=self._plane.live()))

    async def _server_ready(self, _data: bytes, _context: Context) -> bytes:
        return v2_codec.to_bytes(pb.ServerReadyResponse(ready=self._plane.ready()))

    async def _server_metadata(self, _data: bytes, _context: Context) -> bytes:
        return v2_codec.server_metadata(*(() if self._regions is None else (EXTENSION,)))

    async def _model_ready(self, data: bytes, _context: Context) -> bytes:
        # Clients poll this for models that are still to come: not known is not ready, nor is
        # what is loading or cannot be served.
        message = v2_codec.parse(pb.ModelReadyRequest, data)
        try:
            version = v2_codec.version_number(message.version)
            ready = of_model(self._plane, message.name, version).ready
        except (NotFound, Unavailable):
            ready = False
        return v2_codec.to_bytes(pb.ModelReadyResponse(ready=ready))

    async def _model_metadata(self, data: bytes, _context: Context) -> bytes:
        message = v2_codec.parse(pb.ModelMetadataRequest, data)
        version = v2_codec.version_number(message.version)
        document = v2_metadata.model_document(self._plane, message.name, version)
        return v2_codec.model_metadata(document)

    async def _model_config(self, data: bytes, _context: Context) -> bytes:
        message = v2_codec.parse(pb.ModelConfigRequest, data)
        version = v2_codec.version_number(message.version)
        description = of_model(self._plane, message.name, version)
        return v2_codec.model_config(description, message.name)

    async def _model_statistics(self, data: bytes, _context: Context) -> bytes:
        message = v2_codec.parse(pb.ModelStatisticsRequest, data)
        version = v2_codec.version_number(message.version)
        told = await v2_statistics.document(self._plane, message.name or None, version)
        return v2_codec.to_bytes(pb.ModelStatisticsResponse(**told))

    async def _model_infer(self, data: bytes, context: Context) -> bytes:
        inference = self._inference
        inference.begin()
        try:
            parcel = wire.split(data)
            if v2_codec.is_heavy(parcel):
                decoded = await inference.on_thread(self._decode, parcel, context)
            else:
                decoded = self._decode(parcel, context)
            request = decoded.request
            classes = decoded.classes
            encode = partial(v2_codec.encode, decoded.model)
            if classes is not None:
                encode = partial(encode, classes=classes)
            if decoded.sharing is not None:
                shared, elsewhere = self._shared(decoded, decoded.sharing, context)
                encode = partial(encode, shared=shared)
                if elsewhere is not None:
                    request = request._replace(elsewhere=elsewhere)
                elif shared.input_bytes > ON_LOOP_BYTES:
                    request = await inference.on_thread(shared.fill, request)
                else:
                    request = shared.fill(request)
            response = await inference.answer(request)
            slow = classes is not None
            return await inference.encode(response, encode, v2_codec.HEAVY_BYTES, slow=slow)
        finally:
            inference.end()

    def _begin_infer(
        self, data: bytes | memoryview, context: DirectContext, finish: Finish
    ) -> Running | None:
        parcel = self._heads.split(data)
        known = self._heads.find(parcel)
        rows = None if known is None else known.rows
        if rows is not None and rows.takes(parcel.raw) and context.terms(REQUEST_ID) == ("", None):
            gathered = self._gatherings.join(rows, parcel.raw, data, context, finish)
            if gathered is not None:
                return gathered
        return self._begin(parcel, known, context, finish)

    def _begin_alone(
        self, data: bytes | memoryview, context: DirectContext, finish: Finish
    ) -> Running | None:
        parcel = self._heads.split(data)
        return self._begin(parcel, self._heads.find(parcel), context, finish)

    def _begin(
        self, parcel: wire.Parcel, known: Known | None, context: DirectContext, finish: Finish
    ) -> Running | None:
        if v2_codec.is_heavy(parcel):
            return None
        # A reloaded model has another description, and perhaps another signature.
        if known is not None and self._plane.describe(*known.target) is known.description:
            id, deadline = context.terms(REQUEST_ID)
            request = known.request(parcel.raw, deadline, id)
            if request is not None:
                encode = partial(v2_codec.encode, known.model)
                return Exchange(self._inference, request, encode, v2_codec.HEAVY_BYTES, finish)
        decoded = self._decode(parcel, context)
        if decoded.classes is not None:
            return None
        request = decoded.request
        encode = partial(v2_codec.encode, decoded.model)
        if decoded.sharing is not None:
            shared, elsewhere = self._shared(decoded, decoded.sharing, context)
            if elsewhere is not None:
                request = request._replace(elsewhere=elsewhere)
            elif shared.input_bytes > ON_LOOP_BYTES:
                return None
            else:
                request = shared.fill(request)
            encode = partial(v2_codec.encode, decoded.model, shared=shared)
        return Exchange(self._inference, request, encode, v2_codec.HEAVY_BYTES, finish)

    def _shared(
        self, decoded: _Decoded, sharing: Sharing, context: Context
    ) -> tuple[Shared, Elsewhere | None]:
        """Return where a request's tensors lie, twice where its worker finds them there."""
        shared = sharing.found(self._opened(sharing, context))
        return shared, shared.elsewhere(decoded.request, decoded.description)

    def _opened(self, sharing: Sharing, context: Context) -> Regions:
        is_local = gate.local_grpc(context.peer(), context.invocation_metadata())
        return gate.opened(self._regions, is_local, sharing.where)

    def _decode(self, parcel: wire.Parcel, context: Context) -> _Decoded:
        now = time.monotonic()
        remaining = context.time_remaining()
        deadline = None if remaining is None else now + remaining
        known = self._heads.find(parcel)
        # A reloaded model has another description, and perhaps another signature.
        if known and self._plane.describe(*known.target) is known.description:
            request = known.request(parcel.raw, deadline, request_id(context))
            if request is not None:
                return _Decoded(known.model, request, known.description)
        message = v2_codec.parse(pb.ModelInferRequest, parcel.head)
        version = v2_codec.version_number(message.model_version)
        servable, method = split(message.model_name)
        method = v2_codec.method(message, method)
        description = self._plane.describe(servable, version, method)
        sharing = v2_codec.sharing_of(message)
        if sharing is not None:
            self._opened(sharing, context)
        request = v2_codec.decode(
            message,
            parcel.raw,
            description,
            now=now,
            deadline=deadline,
            # Reading the metadata costs as much as the parsing, so only where it is needed.
            id=message.id or request_id(context),
        )
        classes = v2_codec.classes_of(message, description)
        if sharing is None and classes is None:
            self._heads.learn(parcel, message, description, request)
        return _Decoded(message.model_name, request, description, sharing, classes)
