"""Server reflection, so that ``grpcurl`` and its like need no .proto files.

Offered under both names that clients ask for: v1 is the same service as v1alpha, with the same
messages on the wire. Source: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md and
https://github.com/grpc/grpc-proto/blob/master/grpc/reflection/v1/reflection.proto.

Messages are looked for in protobuf's own pool and in that of the stubs that lie apart.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from google.protobuf import descriptor_pool

from serving.frontends.grpc import apart_pool
from serving.frontends.grpc.methods import Context, Method, Methods
from serving.frontends.grpc.status_code import StatusCode
from serving.frontends.grpc.stubs import grpc_reflection_pb2 as pb

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"

_Response = pb.ServerReflectionResponse
_POOL = descriptor_pool.Default()


class ReflectionService:
    """Describes the given services; lives on the event loop, owned by ``GrpcFrontEnd``.

    A client may keep its stream open for as long as it likes; ``drain`` ends those that wait.
    """

    def __init__(self, services: Sequence[str]) -> None:
        self._services = tuple(sorted((*services, V1ALPHA)))
        self._draining = asyncio.Event()

    def methods(self) -> Methods:
        """Return what an engine offers, by path."""
        method = Method(
            self._answers,
            request_streaming=True,
            response_streaming=True,
            read=pb.ServerReflectionRequest.FromString,
            write=_Response.SerializeToString,
        )
        return {f"/{name}/ServerReflectionInfo": method for name in (V1, V1ALPHA)}

    def drain(self) -> None:
        """End every stream, once its current question is answered."""
        self._draining.set()

    async def _answers(
        self, questions: AsyncIterator[Any], _context: Context
    ) -> AsyncIterator[Any]:
        async for question in self._until(questions):
            try:
                answer = self._answer(question)
            except KeyError:  # what the pool raises for a name or number that it does not know
                answer = _error(StatusCode.NOT_FOUND, "not found")
            answer.original_request.CopyFrom(question)
            yield answer

    def _answer(self, question: Any) -> Any:
        """Return the answer to a question; raises KeyError for what is not known."""
        kind = question.WhichOneof("message_request")
        if kind == "list_services":
            named = [pb.ServiceResponse(name=name) for name in self._services]
            return _Response(list_services_response=pb.ListServiceResponse(service=named))
        if kind == "file_by_filename":
            file = question.file_by_filename
            return _files(_find(lambda pool: pool.FindFileByName(file)))
        if kind == "file_containing_symbol":
            symbol = question.file_containing_symbol
            return _files(_find(lambda pool: pool.FindFileContainingSymbol(symbol)))
        if kind == "file_containing_extension":
            asked = question.file_containing_extension
            extended = _POOL.FindMessageTypeByName(asked.containing_type)
            found: Any = _POOL.FindExtensionByNumber(extended, asked.extension_number)
            return _files(found.file)
        if kind == "all_extension_numbers_of_type":
            extended = _POOL.FindMessageTypeByName(question.all_extension_numbers_of_type)
            numbers = sorted(field.number for field in _POOL.FindAllExtensions(extended))
            told = pb.ExtensionNumberResponse(
                base_type_name=extended.full_name, extension_number=numbers
            )
            return _Response(all_extension_numbers_response=told)
        return _error(StatusCode.INVALID_ARGUMENT, "invalid argument")

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


def _find(look: Callable[[Any], Any]) -> Any:
    """Return what a look into the pools finds first; raises KeyError when neither has it."""
    with contextlib.suppress(KeyError):
        return look(_POOL)
    return look(apart_pool.POOL)


def _files(file: Any) -> Any:
    """Return a file and all that it imports, each once, itself first."""
    found: dict[str, Any] = {}
    waiting = [file]
    while waiting:
        file = waiting.pop()
        if file.name not in found:
            found[file.name] = file.serialized_pb
            waiting += reversed(file.dependencies)
    told = pb.FileDescriptorResponse(file_descriptor_proto=found.values())
    return _Response(file_descriptor_response=told)


def _error(code: StatusCode, text: str) -> Any:
    return _Response(error_response=pb.ErrorResponse(error_code=code, error_message=text))
