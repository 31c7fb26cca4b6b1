"""The floors: the same web and gRPC libraries with nothing behind them.

``python -m benchmarks.echoes asgi|grpc FILE`` starts one and writes its port to FILE.

``asgi`` is a raw ASGI application on uvicorn (uvloop, httptools, no access log) that returns the
body it got. ``grpc`` is a grpc.aio server with a generic handler that returns the message it got,
as bytes: nothing is parsed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

MAX_MESSAGE_BYTES = 64 * 2**20


async def echo(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Return the request's body as it came; an ASGI application."""
    assert scope["type"] == "http"
    message = await receive()
    body = message.get("body", b"")
    if message.get("more_body"):
        parts = [body]
        while message.get("more_body"):
            message = await receive()
            parts.append(message.get("body", b""))
        body = b"".join(parts)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def serve_asgi(port_file: Path) -> None:
    """Serve ``echo`` until the process is ended."""
    import socket

    import uvicorn

    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)  # before the port is told, or the first connection may be refused
    config = uvicorn.Config(
        echo,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
    _announce(port_file, listener.getsockname()[1])
    uvicorn.Server(config).run(sockets=[listener])


async def serve_grpc(port_file: Path) -> None:
    """Echo any method of any service until the process is ended."""
    import grpc

    async def same(message: bytes, _context: Any) -> bytes:
        return message

    class Everything(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, _details: grpc.HandlerCallDetails) -> Any:
            return grpc.unary_unary_rpc_method_handler(same)

    sizes = ("grpc.max_receive_message_length", "grpc.max_send_message_length")
    server = grpc.aio.server(options=[(name, MAX_MESSAGE_BYTES) for name in sizes])
    server.add_generic_rpc_handlers((Everything(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    _announce(port_file, port)
    await server.wait_for_termination()


def _announce(port_file: Path, port: int) -> None:
    partial = port_file.with_suffix(".partial")
    partial.write_text(str(port))
    partial.rename(port_file)


def main() -> None:
    """Start the echo that the first argument names."""
    kind, port_file = sys.argv[1], Path(sys.argv[2])
    if kind == "asgi":
        serve_asgi(port_file)
    elif kind == "grpc":
        asyncio.run(serve_grpc(port_file))
    else:
        sys.exit(f"no echo {kind!r}: asgi or grpc")


if __name__ == "__main__":
    main()
