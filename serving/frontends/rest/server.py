"""The REST front end as the master sees it: start, drain, stop.

It embeds uvicorn in an event loop that is already running: no signal handlers, no access log,
no lifespan. The listening socket is made here, so that a taken port is a clear error.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from serving.config import ServerSettings
from serving.dataplane import DataPlane
from serving.frontends.acceptor import Acceptor, Shares
from serving.frontends.rest.app import RestApp
from serving.frontends.rest.connection import Connection
from serving.frontends.rest.lane import Lane
from serving.frontends.rest.listening import BACKLOG, listen
from serving.frontends.shared_memory.regions import Regions
from serving.frontends.tls import certificates_of

_TICK_S = 1.0
_POLL_S = 0.01
_POOL_THREADS = 2
_HANDSHAKE_S = 15.0
_GOODBYE_S = 1.0
"""How long a closed connection waits for the client's end of TLS; nothing depends on it."""


class RestFrontEnd:
    """Owns the listening socket, its connections, and the threads for large messages.

    Called by the master, on the thread of its event loop. ``lane`` False sends every call the
    ordinary way; ``regions`` None is without shared memory of clients. ``shared`` is a socket that
    other processes take connections from as well.
    """

    def __init__(
        self,
        plane: DataPlane,
        settings: ServerSettings,
        *,
        lane: bool = True,
        regions: Regions | None = None,
        shared: tuple[socket.socket, Shares] | None = None,
    ) -> None:
        self._settings = settings
        self._plane = plane
        self._pool = ThreadPoolExecutor(_POOL_THREADS, thread_name_prefix="rest-codec")
        self.app = RestApp(plane, settings, self._pool, regions)
        limit = self.app.budget.limit_bytes
        self._lane = Lane(plane, self._pool, limit, regions) if lane else None
        self._config = uvicorn.Config(
            self.app,
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            proxy_headers=False,
        )
        self._state = ServerState()
        self._shared = shared
        self._server: asyncio.Server | Acceptor | None = None
        self._port: int | None = None
        self._ticker: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; known after ``start``."""
        assert self._port is not None, "start() comes first"
        return self._port

    async def start(self) -> None:
        """Bind and listen. Raises ConfigError, naming the flag, when the address cannot be had."""
        self._config.load()
        certificates = certificates_of(self._settings)
        secured: dict[str, Any] = {}
        if certificates is not None:
            secured = {
                "ssl": certificates.context("http/1.1"),
                "ssl_handshake_timeout": _HANDSHAKE_S,
                "ssl_shutdown_timeout": _GOODBYE_S,
            }
        loop = asyncio.get_running_loop()
        self._tick()
        if self._shared is not None:
            listener, shares = self._shared
            count = self._state.connections.__len__
            self._server = acceptor = Acceptor([listener], shares, self._connection, count, secured)
            acceptor.start()
        else:
            listener = listen(self._settings.host, self._settings.rest_port)
            await self._serve(listener, secured)
        self._port = int(listener.getsockname()[1])
        self._ticker = loop.create_task(self._tick_for_ever())

    async def _serve(self, listener: socket.socket, secured: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                self._connection, sock=listener, backlog=BACKLOG, **secured
            )
        except BaseException:
            listener.close()
            raise

    def _connection(self) -> Connection:
        return Connection(self._config, self._state, self._lane, self._plane)

    def _connections(self) -> list[Connection]:
        return cast(list[Connection], list(self._state.connections))

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._tick()

    def _tick(self) -> None:
        """Renew the Date header; close connections whose clients have gone silent."""
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        if self._lane is not None:
            self._lane.set_date(self._state.default_headers)
        now = time.monotonic()
        for connection in self._connections():
            if connection.overdue(now):
                connection.cut()

    async def drain(self, deadline_s: float) -> None:
        """Stop accepting and let accepted requests finish, for at most ``deadline_s`` seconds.

        Idle connections are closed at once; the others carry ``Connection: close`` on the
        response they are waiting for.
        """
        if self._server is not None:
            self._server.close()
        for connection in self._connections():
            connection.shutdown()
        end = time.monotonic() + deadline_s
        while (self._state.connections or self._state.tasks) and time.monotonic() < end:
            await asyncio.sleep(_POLL_S)

    async def stop(self) -> None:
        """Stop now: requests that are still running are cancelled, connections are cut."""
        if self._server is not None:
            self._server.close()
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
        for connection in self._connections():
            connection.cut()
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
        self._pool.shutdown(wait=False, cancel_futures=True)
