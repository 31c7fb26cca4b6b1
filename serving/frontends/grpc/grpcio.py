"""The engine that is gRPC's own server for Python; imported only where settings choose it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc

from serving.frontends.grpc.entry import ShutOut
from serving.frontends.grpc.methods import CallFailed, Context, Method, Methods
from serving.frontends.grpc.status import Outcome
from serving.frontends.tls import Certificates


class GrpcioServer:
    """Owned by ``GrpcFrontEnd``; made and used on the running event loop.

    ``limit_bytes`` bounds a message that comes in, ``answer_bytes`` one that goes out; ``shut_out``
    says who may not call. With
    ``shares`` the port is one that other processes of this server listen on as well.
    """

    def __init__(
        self, limit_bytes: int, answer_bytes: int, shut_out: ShutOut, *, shares: bool = False
    ) -> None:
        self._shut_out = shut_out
        self._server = grpc.aio.server(
            options=[
                # Two servers on one port would each get some of the connections, in silence.
                ("grpc.so_reuseport", int(shares)),
                ("grpc.max_receive_message_length", limit_bytes),
                ("grpc.max_send_message_length", answer_bytes),
            ]
        )

    def add(self, methods: Methods) -> None:
        """Offer methods; a path is asked for where it was added first."""
        self._server.add_generic_rpc_handlers((_Handlers(methods, self._shut_out),))

    def bind(self, address: str, certificates: Certificates | None) -> int:
        """Take ``host:port`` or ``unix:path``; return the port. Raises RuntimeError."""
        if certificates is None:
            return int(self._server.add_insecure_port(address))
        return int(self._server.add_secure_port(address, certificates.credentials()))

    async def start(self) -> None:
        """Answer calls on what was bound."""
        await self._server.start()

    async def stop(self, grace: float | None) -> None:
        """Accept nothing more and let calls end for ``grace`` seconds (None: not at all)."""
        await self._server.stop(grace)


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Gives grpcio its handler for a path."""

    def __init__(self, methods: Methods, shut_out: ShutOut) -> None:
        self._handlers = {path: _handler(method) for path, method in methods.items()}
        self._shut_out = shut_out

    def service(self, handler_call_details: Any) -> Any:
        path = handler_call_details.method
        end = self._shut_out(path, handler_call_details.invocation_metadata or ())
        return self._handlers.get(path) if end is None else _refusing(end)


def _refusing(end: Outcome) -> Any:
    """Return a handler, good for every kind of call, that ends it unheard."""

    async def run(_requests: Any, context: Context) -> None:
        await _abort(context, end)

    return grpc.stream_stream_rpc_method_handler(run)


def _handler(method: Method) -> Any:
    """Return grpcio's ``RpcMethodHandler`` for a method."""
    kinds = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    behaviour = _responses(method) if method.response_streaming else _response(method)
    kind = kinds[method.request_streaming, method.response_streaming]
    return kind(behaviour, request_deserializer=method.read, response_serializer=method.write)


def _response(method: Method) -> Any:
    async def run(request: Any, context: Context) -> Any:
        try:
            return await method.behaviour(request, context)
        except CallFailed as failed:
            await _abort(context, failed.outcome)

    return run


def _responses(method: Method) -> Any:
    async def run(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            async with contextlib.aclosing(method.behaviour(request, context)) as responses:
                async for response in responses:
                    yield response
        except CallFailed as failed:
            await _abort(context, failed.outcome)

    return run


async def _abort(context: Context, end: Outcome) -> NoReturn:
    await context.abort(grpc.StatusCode[end.code.name], end.details, end.trailers)
    raise AssertionError("context.abort returned")
