"""The calls of ``inference.GRPCInferenceService``: bytes in, data plane, bytes out.

Handlers take and give serialised messages: no per-call protobuf objects beyond what is needed.
"""

from __future__ import annotations

import time

import grpc

from serving.dataplane import DataPlane
from serving.errors import NotFound, Unavailable
from serving.frontends import v2_statistics
from serving.frontends.grpc import v2_codec, wire
from serving.frontends.grpc.calls import Context, Inference, request_id, service
from serving.frontends.grpc.known_heads import KnownHeads
from serving.frontends.grpc.repository_calls import RepositoryCalls
from serving.frontends.grpc.status import outcome
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.request import InferRequest

NAME = "inference.GRPCInferenceService"


class InferenceService:
    """Answers the protocol's calls from a data plane; owned by ``GrpcFrontEnd``."""

    def __init__(self, plane: DataPlane, inference: Inference) -> None:
        self._plane = plane
        self._inference = inference
        self._heads = KnownHeads()

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what ``grpc.aio.Server.add_generic_rpc_handlers`` takes."""
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
        }
        return service(NAME, calls, outcome, self._plane)

    async def _server_live(self, _data: bytes, _context: Context) -> bytes:
        return v2_codec.to_bytes(pb.ServerLiveResponse(live=self._plane.live()))

    async def _server_ready(self, _data: bytes, _context: Context) -> bytes:
        return v2_codec.to_bytes(pb.ServerReadyResponse(ready=self._plane.ready()))

    async def _server_metadata(self, _data: bytes, _context: Context) -> bytes:
        return v2_codec.server_metadata()

    async def _model_ready(self, data: bytes, _context: Context) -> bytes:
        # Clients poll this for models that are still to come: not known is not ready, nor is
        # what is loading or cannot be served.
        message = v2_codec.parse(pb.ModelReadyRequest, data)
        try:
            version = v2_codec.version_number(message.version)
            ready = self._plane.describe(message.name, version).ready
        except (NotFound, Unavailable):
            ready = False
        return v2_codec.to_bytes(pb.ModelReadyResponse(ready=ready))

    async def _model_metadata(self, data: bytes, _context: Context) -> bytes:
        message = v2_codec.parse(pb.ModelMetadataRequest, data)
        version = v2_codec.version_number(message.version)
        return v2_codec.model_metadata(self._plane.describe(message.name, version))

    async def _model_config(self, data: bytes, _context: Context) -> bytes:
        message = v2_codec.parse(pb.ModelConfigRequest, data)
        version = v2_codec.version_number(message.version)
        return v2_codec.model_config(self._plane.describe(message.name, version))

    async def _model_statistics(self, data: bytes, _context: Context) -> bytes:
        message = v2_codec.parse(pb.ModelStatisticsRequest, data)
        version = v2_codec.version_number(message.version)
        told = v2_statistics.document(self._plane, message.name or None, version)
        return v2_codec.to_bytes(pb.ModelStatisticsResponse(**told))

    async def _model_infer(self, data: bytes, context: Context) -> bytes:
        inference = self._inference
        inference.begin()
        try:
            parcel = wire.split(data)
            if v2_codec.is_heavy(parcel):
                request = await inference.on_thread(self._decode, parcel, context)
            else:
                request = self._decode(parcel, context)
            response = await inference.answer(request)
            return await inference.encode(response, v2_codec.encode, v2_codec.HEAVY_BYTES)
        finally:
            inference.end()

    def _decode(self, parcel: wire.Parcel, context: Context) -> InferRequest:
        now = time.monotonic()
        remaining = context.time_remaining()
        deadline = None if remaining is None else now + remaining
        known = self._heads.find(parcel)
        # A reloaded model has another description, and perhaps another signature.
        if known and self._plane.describe(known.name, known.version) is known.description:
            request = known.request(parcel.raw, deadline, request_id(context))
            if request is not None:
                return request
        message = v2_codec.parse(pb.ModelInferRequest, parcel.head)
        version = v2_codec.version_number(message.model_version)
        description = self._plane.describe(message.model_name, version)
        request = v2_codec.decode(
            message,
            parcel.raw,
            description,
            now=now,
            deadline=deadline,
            # Reading the metadata costs as much as the parsing, so only where it is needed.
            id=message.id or request_id(context),
        )
        self._heads.learn(parcel, message, description, request)
        return request
