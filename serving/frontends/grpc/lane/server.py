"""The server of the lane: listens, keeps the connections, sweeps and drains them.

It stops as a ``grpc.aio`` server does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

from serving.frontends.acceptor import Acceptor, Shares
from serving.frontends.grpc.entry import ShutOut
from serving.frontends.grpc.lane.budget import Budget
from serving.frontends.grpc.lane.connection import OPENING_TIMEOUT_S, Connection
from serving.frontends.grpc.lane.deadlines import Deadlines
from serving.frontends.grpc.lane.listening import BACKLOG, UnixListener, listeners
from serving.frontends.grpc.lane.shared import Shared
from serving.frontends.grpc.methods import Method, Methods

_log = logging.getLogger("serving.frontends.grpc")

SWEEP_S = 1.0
_GOODBYE_S = 0.5
"""How long clients may take to say that they know of the drain."""
_UNSENT_S = 5.0
"""How long a TLS client may take what is unsent when its connection closes, and its end."""

_ALIVE = ((socket.TCP_KEEPIDLE, 120), (socket.TCP_KEEPINTVL, 30), (socket.TCP_KEEPCNT, 4))
"""A client whose machine is gone is noticed after four minutes."""


class LaneServer:
    """Owned by ``GrpcFrontEnd``; all methods are called on the event loop.

    ``limit_bytes`` bounds one message, ``held_bytes`` those of unfinished requests together, and
    as much again the answers that clients do not read. ``shut_out`` says who may not call.
    """

    def __init__(
        self,
        limit_bytes: int,
        held_bytes: int,
        threads: Executor,
        shut_out: ShutOut | None = None,
    ) -> None:
        self._methods: dict[str, Method] = {}
        held_bytes = max(held_bytes, limit_bytes)
        self._shared = Shared(
            self._methods,
            limit_bytes,
            Budget(held_bytes),
            Budget(held_bytes),
            threads,
            Deadlines(lambda stream: stream.owner.expire(stream)),
            shut_out,
        )
        self._tls: ssl.SSLContext | None = None
        self._sockets: list[socket.socket] = []
        self._unix: UnixListener | None = None
        self._shares: Shares | None = None
        self._servers: list[asyncio.Server | Acceptor] = []
        self._connections: set[Connection] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._all_gone = asyncio.Event()
        self._stopping = False

    def add(self, methods: Methods) -> None:
        """Offer methods."""
        self._methods |= methods

    def bind(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Take the port on every address of ``host``; return it. Raises OSError.

        ``tls`` must agree to ``h2`` by ALPN; a client that does not ask for it is turned away.
        """
        self._tls = tls
        self._sockets = listeners(host, port)
        return int(self._sockets[0].getsockname()[1])

    def share(
        self, sockets: Sequence[socket.socket], shares: Shares, tls: ssl.SSLContext | None = None
    ) -> int:
        """Listen on sockets that other processes take connections from too; return the port."""
        self._tls = tls
        self._sockets = list(sockets)
        self._shares = shares
        return int(self._sockets[0].getsockname()[1])

    def bind_unix(self, path: str, tls: ssl.SSLContext | None = None) -> None:
        """Listen on a Unix socket, which is removed again at the end. Raises OSError."""
        self._tls = tls
        self._unix = UnixListener(path)

    async def start(self) -> None:
        """Answer calls on what was bound."""
        loop = asyncio.get_running_loop()
        how: dict[str, Any] = {}
        if self._tls is not None:
            how = {
                "ssl": self._tls,
                "ssl_handshake_timeout": OPENING_TIMEOUT_S,
                "ssl_shutdown_timeout": _UNSENT_S,
            }
        if self._shares is not None:
            count = self._connections.__len__
            acceptor = Acceptor(self._sockets, self._shares, self._connected, count, how)
            acceptor.start()
            self._servers.append(acceptor)
        else:
            await self._listen(loop, how | {"backlog": BACKLOG})
        self._sweeper = loop.create_task(self._sweep())

    async def _listen(self, loop: asyncio.AbstractEventLoop, how: dict[str, Any]) -> None:
        for listener in self._sockets:
            self._servers.append(await loop.create_server(self._connected, sock=listener, **how))
        if self._unix is not None:
            sock = self._unix.socket
            self._servers.append(await loop.create_unix_server(self._connected, sock=sock, **how))

    async def stop(self, grace: float | None) -> None:
        """Accept nothing more and let calls end for ``grace`` seconds (None: not at all)."""
        self._stopping = True
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
        await self._gone_by(time.monotonic() + _GOODBYE_S)  # what was just written goes out
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
            with contextlib.suppress(TimeoutError):  # a client may be silent in mid-handshake
                await asyncio.wait_for(server.wait_closed(), _GOODBYE_S)
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
        if self._stopping:  # its handshake took longer than the server was there
            connection.abort()
            return
        if self._unix is not None:
            return
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
        if self._unix is not None:
            self._unix.close()
            self._unix = None
