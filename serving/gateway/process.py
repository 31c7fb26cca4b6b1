"""The life of a front-end process: connect, learn what is served, serve, drain or be told to go.

It owns its clients' connections and decodes and encodes what they say; all else is asked of the
master. Nothing here decides policy.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from serving.config import ServerSettings
from serving.errors import ServingError
from serving.frontends import body_memory
from serving.frontends.acceptor import Shares
from serving.frontends.grpc.server import GrpcFrontEnd
from serving.frontends.rest.server import RestFrontEnd
from serving.gateway.messages import (
    PROTOCOL,
    Begin,
    Drain,
    Drained,
    Hello,
    Message,
    Opened,
    Ping,
    Pong,
    Stop,
)
from serving.gateway.pipe import Pipe
from serving.gateway.plane import GatewayPlane
from serving.gateway.words import settings_from_json
from serving.lifecycle.gate import Gate, Tokens

_log = logging.getLogger("serving.gateway")

_SWEEP_S = 1.0


@dataclass(frozen=True)
class Inherited:
    """What the master has passed on: the listening sockets, and the pages of shares."""

    rest: socket.socket
    grpc: Sequence[socket.socket]
    rest_shares: int
    grpc_shares: int
    place: int
    places: int


class Process:
    """Owns the pipe, the data plane over it, and the front ends. Event loop only."""

    def __init__(self, end: socket.socket, inherited: Inherited) -> None:
        self._inherited = inherited
        self._pipe = Pipe(end, self._heard, self._hung_up)
        self._plane: GatewayPlane | None = None
        self._doors: tuple[RestFrontEnd, GrpcFrontEnd] | None = None
        self._settings: asyncio.Future[ServerSettings]
        self._settings = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Serve until the master says stop, or is gone."""
        self._pipe.start()
        self._pipe.send(Hello(PROTOCOL))
        settings = await self._settings
        assert self._plane is not None
        try:
            await self._open(settings, self._plane)
        except ServingError as error:
            self._pipe.send(Opened(str(error)))
            self._pipe.flush()
            return
        self._pipe.send(Opened())
        sweeper = asyncio.create_task(self._sweep(self._plane))
        await self._over.wait()
        sweeper.cancel()
        assert self._doors is not None
        for door in self._doors:
            await door.stop()

    async def _open(self, settings: ServerSettings, plane: GatewayPlane) -> None:
        """Accept connections, once it is known what is served."""
        told = self._inherited
        # Of what bodies may hold together each process has its part.
        part_mb = max(settings.memory_mb // told.places, settings.max_request_mb)
        port = told.grpc[0].getsockname()[1]
        mine = replace(settings, memory_mb=part_mb, grpc_port=port)
        rest_shares = Shares(told.rest_shares, told.places, told.place)
        grpc_shares = Shares(told.grpc_shares, told.places, told.place)
        regions = plane.regions
        rest = RestFrontEnd(plane, mine, regions=regions, shared=(told.rest, rest_shares))
        grpc = GrpcFrontEnd(plane, mine, regions=regions, shared=(told.grpc, grpc_shares))
        self._doors = rest, grpc
        await plane.informed.wait()
        await rest.start()
        await grpc.start()

    async def _sweep(self, plane: GatewayPlane) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            plane.sweep(time.monotonic())

    def _heard(self, message: Message) -> None:
        match message:
            case Begin():
                self._begin(message)
            case Ping():
                self._pipe.send(Pong(message.serial))
            case Drain():
                self._spawn(self._drain(message.deadline_s))
            case Stop():
                self._over.set()
            case _:
                assert self._plane is not None, "the settings come first"
                self._plane.heard(message)

    def _begin(self, message: Begin) -> None:
        settings = settings_from_json(message.settings)
        tokens = Tokens(message.admin_token, message.client_token)
        gate = Gate(settings.model_control, tokens)
        shared_bytes = settings.max_request_mb << 20 if settings.client_shared_memory else None
        self._plane = plane = GatewayPlane(self._pipe, gate, shared_bytes)
        body_memory.take_from(plane.trays.receive)
        self._settings.set_result(settings)

    async def _drain(self, deadline_s: float) -> None:
        if self._doors is not None:
            await asyncio.gather(*[door.drain(deadline_s) for door in self._doors])
        self._pipe.send(Drained())

    def _hung_up(self) -> None:
        """The master is gone: nobody can be answered any more."""
        _log.error("the master is gone")
        os._exit(1)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
