"""The gRPC front end, from start to stop, on the running event loop.

It is this project's own server, or a ``grpc.aio`` one in its place (``--grpc-engine grpcio``), with
the same services behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from serving.config import ServerSettings
from serving.dataplane import DataPlane
from serving.errors import ConfigError
from serving.frontends.acceptor import Shares
from serving.frontends.grpc import health, ms_service, service, tf_service, v1_service
from serving.frontends.grpc.calls import Inference
from serving.frontends.grpc.entry import shut_out
from serving.frontends.grpc.health import HealthService
from serving.frontends.grpc.lane.listening import port_taken
from serving.frontends.grpc.lane.server import LaneServer
from serving.frontends.grpc.ms_service import MindSporeService
from serving.frontends.grpc.reflection import ReflectionService
from serving.frontends.grpc.service import InferenceService
from serving.frontends.grpc.tf_service import TensorFlowService
from serving.frontends.grpc.v1_service import V1Service
from serving.frontends.shared_memory.regions import Regions
from serving.frontends.tls import certificates_of

if TYPE_CHECKING:
    from serving.frontends.grpc.grpcio import GrpcioServer

_MESSAGE_LIMIT = 2**31 - 1
"""gRPC's and protobuf's own bound on one message."""
LANE = "lane"
_THREADS = 2
_LINGER_S = 0.1
"""How long a drained server still refuses calls before it closes; see ``drain``."""


class GrpcFrontEnd:
    """Owns the port, the services and the codec threads; ``serving.master`` builds and stops it.

    All methods are called on the event loop. ``port`` is the real port once started. With ``unix``
    it listens on that path in place of host and port. ``regions`` None is without shared memory of
    clients. ``shared`` are sockets that other processes take connections from as well; grpcio's own
    listen beside them, on the port that settings name.
    """

    def __init__(
        self,
        plane: DataPlane,
        settings: ServerSettings,
        *,
        unix: str = "",
        regions: Regions | None = None,
        shared: tuple[Sequence[socket.socket], Shares] | None = None,
    ) -> None:
        self._plane = plane
        self._shared = shared
        self._settings = settings
        self._unix = unix
        self._regions = regions
        self._server: LaneServer | GrpcioServer | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._inference: Inference | None = None
        self._v2: InferenceService | None = None
        self._health: HealthService | None = None
        self._reflection: ReflectionService | None = None
        self.port = 0

    async def start(self) -> None:
        """Bind and answer calls; raises ConfigError when the address cannot be bound."""
        threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="grpc-codec")
        server = self._engine(threads)
        self._inference = Inference(self._plane, threads)
        self._v2 = InferenceService(self._plane, self._inference, self._regions)
        self._health = HealthService(self._plane)
        self._reflection = ReflectionService(
            (v1_service.NAME, service.NAME, ms_service.NAME, *tf_service.NAMES, health.NAME)
        )
        # Looked through in this order for every call, so inference comes first.
        for each in (
            self._v2,
            V1Service(self._plane, self._inference),
            MindSporeService(self._plane, self._inference, self._regions),
            TensorFlowService(self._plane, self._inference, self._settings.max_request_mb << 20),
            self._health,
            self._reflection,
        ):
            server.add(each.methods())
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
        So are streams of inference, once what they have asked is answered.
        """
        if self._server is None or not (self._inference and self._v2):
            return
        assert self._health is not None
        assert self._reflection is not None
        deadline = time.monotonic() + deadline_s
        self._health.drain()
        self._reflection.drain()
        self._v2.drain()
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

    def _engine(self, threads: ThreadPoolExecutor) -> LaneServer | GrpcioServer:
        """Return the server of the engine that settings name, without services yet."""
        limit = min(self._settings.max_request_mb << 20, _MESSAGE_LIMIT)
        if self._settings.grpc_engine == LANE:
            held = self._settings.memory_mb << 20
            return LaneServer(limit, held, threads, shut_out(self._plane))
        # Not before it is chosen: to import grpcio takes memory and time of every start.
        from serving.frontends.grpc.grpcio import GrpcioServer

        shares = self._shared is not None
        return GrpcioServer(limit, _MESSAGE_LIMIT, shut_out(self._plane), shares=shares)

    def _bind(self, server: LaneServer | GrpcioServer) -> int:
        host, port = self._settings.host, self._settings.grpc_port
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if self._unix:
            address = f"unix:{self._unix}"
        certificates = certificates_of(self._settings)
        try:
            if isinstance(server, LaneServer):
                tls = None if certificates is None else certificates.context("h2")
                if self._shared is not None:
                    return server.share(*self._shared, tls)
                if self._unix:
                    server.bind_unix(self._unix, tls)
                    return 0
                bound = server.bind(host, port, tls)
            else:
                bound = server.bind(address, certificates)
        except (OSError, OverflowError, RuntimeError):
            bound = 0
        if not bound:
            raise port_taken(self._settings, address)
        return int(bound)
