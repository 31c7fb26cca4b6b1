"""Server reflection, so that ``grpcurl`` and its like need no .proto files.

Offered under both names that clients ask for. ``grpcio-reflection`` implements v1alpha only;
v1 is the same service with the same messages on the wire under another package name
(https://github.com/grpc/grpc-proto/blob/master/grpc/reflection/v1/reflection.proto), so the
v1alpha implementation answers it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha import reflection_pb2 as pb

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"


class ReflectionService:
    """Describes the given services; lives on the event loop, owned by ``GrpcFrontEnd``.

    A client may keep its stream open for as long as it likes; ``drain`` ends those that wait.
    """

    def __init__(self, services: Sequence[str]) -> None:
        self._servicer = reflection.aio.ReflectionServicer((*services, V1ALPHA))
        self._draining = asyncio.Event()

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Return what ``grpc.aio.Server.add_generic_rpc_handlers`` takes."""
        method = grpc.stream_stream_rpc_method_handler(
            self._answer,
            request_deserializer=pb.ServerReflectionRequest.FromString,
            response_serializer=pb.ServerReflectionResponse.SerializeToString,
        )
        return tuple(
            grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
            for name in (V1, V1ALPHA)
        )

    def drain(self) -> None:
        """End every stream, once its current question is answered."""
        self._draining.set()

    async def _answer(self, questions: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for answer in self._servicer.ServerReflectionInfo(self._until(questions), context):
            yield answer

    async def _until(self, questions: AsyncIterator[Any]) -> AsyncIterator[Any]:
        draining = asyncio.ensure_future(self._draining.wait())
        question: asyncio.Future[Any] | None = None
        try:
            while True:
                question = asyncio.ensure_future(anext(questions))
                await asyncio.wait({question, draining}, return_when=asyncio.FIRST_COMPLETED)
                if not question.done():
                    question.cancel()
                    return
                try:
                    yield question.result()
                except StopAsyncIteration:
                    return
        finally:
            draining.cancel()
            if question is not None:
                question.cancel()
