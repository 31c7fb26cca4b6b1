"""The gRPC front end: a ``grpc.aio`` server on the running event loop, from start to stop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from serving.config import ServerSettings
from serving.dataplane import DataPlane
from serving.errors import ConfigError
from serving.frontends.grpc import health, ms_service, service, v1_service
from serving.frontends.grpc.calls import Inference
from serving.frontends.grpc.health import HealthService
from serving.frontends.grpc.ms_service import MindSporeService
from serving.frontends.grpc.reflection import ReflectionService
from serving.frontends.grpc.service import InferenceService
from serving.frontends.grpc.v1_service import V1Service

_MESSAGE_LIMIT = 2**31 - 1
"""gRPC's and protobuf's own bound on one message."""
_THREADS = 2
_LINGER_S = 0.1
"""How long a drained server still refuses calls before it closes; see ``drain``."""


class GrpcFrontEnd:
    """Owns the port, the services and the codec threads; ``serving.master`` builds and stops it.

    All methods are called on the event loop. ``port`` is the real port once started.
    """

    def __init__(self, plane: DataPlane, settings: ServerSettings) -> None:
        self._plane = plane
        self._settings = settings
        self._server: Any = None
        self._threads: ThreadPoolExecutor | None = None
        self._inference: Inference | None = None
        self._health: HealthService | None = None
        self._reflection: ReflectionService | None = None
        self.port = 0

    async def start(self) -> None:
        """Bind and answer calls; raises ConfigError when the address cannot be bound."""
        limit = min(self._settings.max_request_mb << 20, _MESSAGE_LIMIT)
        server = grpc.aio.server(
            options=[
                # Two servers on one port would each get some of the connections, in silence.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", _MESSAGE_LIMIT),
            ]
        )
        threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="grpc-codec")
        self._inference = Inference(self._plane, threads)
        self._health = HealthService(self._plane)
        self._reflection = ReflectionService(
            (v1_service.NAME, service.NAME, ms_service.NAME, health.NAME)
        )
        # Looked through in this order for every call, so inference comes first.
        server.add_generic_rpc_handlers(
            (
                InferenceService(self._plane, self._inference).handler(),
                V1Service(self._plane, self._inference).handler(),
                MindSporeService(self._plane, self._inference).handler(),
            )
        )
        self._health.add_to(server)
        server.add_generic_rpc_handlers(self._reflection.handlers())
        try:
            self.port = self._bind(server)
        except ConfigError:
            threads.shutdown()
            raise
        await server.start()
        self._server, self._threads = server, threads

    async def drain(self, deadline_s: float) -> None:
        """Refuse new inference, let what runs end, close; cancel what is left at the deadline.

        Health says NOT_SERVING from here on; its watchers and reflection streams are ended.
        """
        if self._server is None or not (self._inference and self._health and self._reflection):
            return
        deadline = time.monotonic() + deadline_s
        self._health.drain()
        self._reflection.drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._inference.drain(), deadline_s)
        # gRPC cancels calls that cross its stop on the wire, and clients do not try again on
        # CANCELLED; on UNAVAILABLE they do. So those already on their way are refused first.
        await asyncio.sleep(max(0.0, min(_LINGER_S, deadline - time.monotonic())))
        # Answers may still be on their way out: what is left of the time is theirs.
        await self._server.stop(max(0.0, deadline - time.monotonic()))

    async def stop(self) -> None:
        """Close at once what is still open and let go of port and threads; may be repeated."""
        server, self._server = self._server, None
        threads, self._threads = self._threads, None
        if server is not None:
            await server.stop(None)
        if threads is not None:
            # Cancelled calls may have left work; it is short and touches borrowed memory.
            threads.shutdown(wait=True)

    def _bind(self, server: Any) -> int:
        host, port = self._settings.host, self._settings.grpc_port
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = server.add_insecure_port(address)
        except RuntimeError:
            bound = 0
        if not bound:
            raise ConfigError(
                f"the gRPC port cannot be opened: {address} is taken or not an address here",
                code="port_taken",
                where="--grpc-port",
                given=f"--grpc-port {port}",
                fix="stop what listens there, or choose another with --grpc-port (0: a free one)",
            )
        return int(bound)
