"""The server of the lane: listens, keeps the connections, sweeps and drains them.

It takes the handlers that a ``grpc.aio`` server takes, and stops as that does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from typing import Any

from serving.frontends.grpc.calls import Shortcut
from serving.frontends.grpc.lane.budget import Budget
from serving.frontends.grpc.lane.connection import Connection
from serving.frontends.grpc.lane.deadlines import Deadlines
from serving.frontends.grpc.lane.routes import Routes
from serving.frontends.grpc.lane.shared import Shared

_log = logging.getLogger("serving.frontends.grpc")

SWEEP_S = 1.0
_BACKLOG = 1024
_GOODBYE_S = 0.5
"""How long clients may take to say that they know of the drain."""

_ALIVE = ((socket.TCP_KEEPIDLE, 120), (socket.TCP_KEEPINTVL, 30), (socket.TCP_KEEPCNT, 4))
"""A client whose machine is gone is noticed after four minutes."""


class LaneServer:
    """Owned by ``GrpcFrontEnd``; all methods are called on the event loop.

    ``limit_bytes`` bounds one message, ``held_bytes`` those of unfinished requests together.
    """

    def __init__(self, limit_bytes: int, held_bytes: int, threads: Executor) -> None:
        self._routes = Routes()
        self._shared = Shared(
            self._routes,
            limit_bytes,
            Budget(max(held_bytes, limit_bytes)),
            threads,
            Deadlines(lambda stream: stream.owner.expire(stream)),
        )
        self._tls: ssl.SSLContext | None = None
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._all_gone = asyncio.Event()

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        """Offer the methods of grpcio's handlers."""
        self._routes.add(handlers)

    def add_registered_method_handlers(self, _service: str, _handlers: Mapping[str, Any]) -> None:
        """Do nothing: generated code registers its handlers in both ways."""

    def add_shortcuts(self, shortcuts: Mapping[str, Shortcut]) -> None:
        """Offer shortcuts, by path, for methods that handlers have too."""
        self._routes.add_shortcuts(shortcuts)

    def bind(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Take the port on every address of ``host``; return it. Raises OSError.

        ``tls`` must agree to ``h2`` by ALPN; a client that does not ask for it is turned away.
        """
        self._tls = tls
        flags = socket.AI_PASSIVE
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
        try:
            for family, kind, proto, _, address in found:
                listener = socket.socket(family, kind, proto)
                self._sockets.append(listener)
                listener.setblocking(False)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
                listener.bind((address[0], port, *address[2:]))
                listener.listen(_BACKLOG)
                port = listener.getsockname()[1]
        except (OSError, OverflowError):
            self._let_go()
            raise
        return port

    async def start(self) -> None:
        """Answer calls on what was bound."""
        loop = asyncio.get_running_loop()
        for listener in self._sockets:
            server = await loop.create_server(
                self._connected, sock=listener, ssl=self._tls, backlog=_BACKLOG
            )
            self._servers.append(server)
        self._sweeper = loop.create_task(self._sweep())

    async def stop(self, grace: float | None) -> None:
        """Accept nothing more and let calls end for ``grace`` seconds (None: not at all)."""
        for server in self._servers:
            server.close()
        if grace is not None:
            deadline = time.monotonic() + grace
            for connection in list(self._connections):
                connection.drain()
            await self._gone_by(min(deadline, time.monotonic() + _GOODBYE_S))
            for connection in list(self._connections):
                connection.drained()
            await self._gone_by(deadline)
        for connection in list(self._connections):
            connection.end_all()
        await asyncio.sleep(0)  # what was just written goes out
        for connection in list(self._connections):
            connection.abort()
        await self._gone_by(time.monotonic() + _GOODBYE_S)
        await self._finish()

    async def _finish(self) -> None:
        self._shared.deadlines.close()
        tasks = list(self._shared.tasks)
        for task in tasks:
            task.cancel()
        sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None:
            sweeper.cancel()
            tasks.append(sweeper)
        await asyncio.gather(*tasks, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()
        self._let_go()

    async def _gone_by(self, deadline: float) -> None:
        """Wait until no connection is left, or ``deadline``."""
        while self._connections:
            self._all_gone.clear()
            left = deadline - time.monotonic()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), left)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            for connection in list(self._connections):
                try:
                    connection.sweep(now)
                except Exception:
                    _log.exception("a gRPC connection is given up")
                    connection.abort()

    def _connected(self) -> Connection:
        return Connection(self._shared, self._on_made, self._on_lost)

    def _on_made(self, connection: Connection, transport: asyncio.BaseTransport) -> None:
        self._connections.add(connection)
        taken = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # it may be gone again already
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _ALIVE:
                taken.setsockopt(socket.IPPROTO_TCP, option, value)

    def _on_lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._all_gone.set()

    def _let_go(self) -> None:
        for listener in self._sockets:
            listener.close()
        self._sockets.clear()
