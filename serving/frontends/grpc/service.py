"""The calls of ``inference.GRPCInferenceService``: bytes in, data plane, bytes out.

Runs on the event loop of the front ends. Handlers take and give serialised messages (no
per-call protobuf objects beyond what is needed); work that goes element by element is done on
a few threads, so that one client's long list of strings does not stop everybody's calls.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

import grpc

from serving.dataplane import DataPlane
from serving.errors import Cancelled, InternalError, NotFound, ServingError, Unavailable
from serving.frontends.grpc import v2_codec, wire
from serving.frontends.grpc.status import outcome
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.request import InferRequest, InferResponse

NAME = "inference.GRPCInferenceService"
REQUEST_ID = "x-request-id"

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Context = Any
"""``grpc.aio.ServicerContext``; grpc has no types to check against."""

_log = logging.getLogger("serving.frontends.grpc")


class InferenceService:
    """Answers the protocol's calls from a data plane; owned by ``GrpcFrontEnd``."""

    def __init__(self, plane: DataPlane, threads: Executor) -> None:
        self._plane = plane
        self._threads = threads
        self._running = 0
        self._draining = False
        self._idle = asyncio.Event()

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what ``grpc.aio.Server.add_generic_rpc_handlers`` takes."""
        calls = {
            "ModelInfer": self._model_infer,
            "ModelMetadata": self._model_metadata,
            "ModelReady": self._model_ready,
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
        }
        return grpc.method_handlers_generic_handler(
            NAME,
            {name: grpc.unary_unary_rpc_method_handler(_guarded(c)) for name, c in calls.items()},
        )

    async def drain(self) -> None:
        """Refuse new inference from here on; return when what was running has ended."""
        self._draining = True
        if not self._running:
            self._idle.set()
        await self._idle.wait()

    async def _server_live(self, _data: bytes, _context: Context) -> bytes:
        return v2_codec.to_bytes(pb.ServerLiveResponse(live=self._plane.live()))

    async def _server_ready(self, _data: bytes, _context: Context) -> bytes:
        return v2_codec.to_bytes(pb.ServerReadyResponse(ready=self._plane.ready()))

    async def _server_metadata(self, _data: bytes, _context: Context) -> bytes:
        return v2_codec.server_metadata()

    async def _model_ready(self, data: bytes, _context: Context) -> bytes:
        # Clients poll this for models that are still to come: not known is not ready.
        message = v2_codec.parse(pb.ModelReadyRequest, data)
        try:
            version = v2_codec.version_number(message.version)
            ready = self._plane.describe(message.name, version).ready
        except NotFound:
            ready = False
        return v2_codec.to_bytes(pb.ModelReadyResponse(ready=ready))

    async def _model_metadata(self, data: bytes, _context: Context) -> bytes:
        message = v2_codec.parse(pb.ModelMetadataRequest, data)
        version = v2_codec.version_number(message.version)
        return v2_codec.model_metadata(self._plane.describe(message.name, version))

    async def _model_infer(self, data: bytes, context: Context) -> bytes:
        if self._draining:
            raise Unavailable("the server is shutting down", code="draining")
        self._running += 1
        try:
            parcel = wire.split(data)
            if v2_codec.is_heavy(parcel):
                request = await self._on_thread(self._decode, parcel, context)
            else:
                request = self._decode(parcel, context)
            response = await self._answer(request)
            if _packs_many_strings(response):
                return await self._encode_on_thread(response)
            try:
                return v2_codec.encode(response)
            finally:
                response.release()
        finally:
            self._running -= 1
            if self._draining and not self._running:
                self._idle.set()

    def _decode(self, parcel: wire.Parcel, context: Context) -> InferRequest:
        now = time.monotonic()
        remaining = context.time_remaining()
        message = v2_codec.parse(pb.ModelInferRequest, parcel.head)
        version = v2_codec.version_number(message.model_version)
        return v2_codec.decode(
            message,
            parcel.raw,
            self._plane.describe(message.model_name, version),
            now=now,
            deadline=None if remaining is None else now + remaining,
            # Reading the metadata costs as much as the parsing, so only where it is needed.
            id=message.id or _request_id(context),
        )

    async def _answer(self, request: InferRequest) -> InferResponse:
        claim = self._plane.claim(request)
        try:
            self._plane.commit(claim)
            return await claim.answer
        except asyncio.CancelledError:
            # Either this call was cancelled (the client left, its deadline passed) or the plane
            # cancelled the answer. The answer may have come in between: nobody reads it now.
            self._plane.abandon(claim)
            _give_back(claim.answer)
            raise

    async def _encode_on_thread(self, response: InferResponse) -> bytes:
        encoding = self._on_thread(v2_codec.encode, response)
        # A cancelled call does not stop the thread, so the rows are given back when the thread
        # is through with them and not when the call ends.
        encoding.add_done_callback(lambda _: response.release())
        return await asyncio.shield(encoding)

    def _on_thread(self, work: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *args)


def _guarded(
    call: Callable[[bytes, Context], Awaitable[bytes]],
) -> Callable[[bytes, Context], Awaitable[bytes]]:
    """Wrap a call so that whatever it raises ends it with the right status."""

    async def guarded(data: bytes, context: Context) -> bytes:
        try:
            return await call(data, context)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            error: ServingError = Cancelled("the request was withdrawn by the server")
        except ServingError as known:
            error = known
        except Exception:
            _log.exception("a gRPC call failed")
            error = InternalError("the server failed on this request; its log says more")
        end = outcome(error)
        await context.abort(end.code, end.details, end.trailers)
        raise AssertionError("context.abort returned")

    return guarded


def _request_id(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID:
            return str(value)
    return ""


def _give_back(answer: asyncio.Future[InferResponse]) -> None:
    if answer.done() and not answer.cancelled() and answer.exception() is None:
        answer.result().release()


def _packs_many_strings(response: InferResponse) -> bool:
    for tensor in response.outputs:
        items = tensor.items
        if items is not None and 4 * len(items) + tensor.nbytes > v2_codec.HEAVY_BYTES:
            return True
    return False
