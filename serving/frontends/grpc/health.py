"""The standard health service (``grpc.health.v1``), answered from the data plane.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md. The empty service name
is the server as a whole, any other the name of a servable. ``Check`` asks the data plane each
time; ``Watch`` streams share one look at it every ``TICK_S`` while anybody watches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from serving.dataplane import DataPlane
from serving.errors import NotFound, Unavailable
from serving.frontends.grpc.methods import CallFailed, Context, Method, Methods
from serving.frontends.grpc.status import outcome
from serving.frontends.grpc.stubs import grpc_health_pb2 as pb
from serving.frontends.method import of_model

NAME = "grpc.health.v1.Health"
TICK_S = 0.1

_Status = pb.HealthCheckResponse


class HealthService:
    """Check and Watch; lives on the event loop, owned by ``GrpcFrontEnd``."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._draining = False
        self._watchers = 0
        self._tick = asyncio.Event()
        self._ticker: asyncio.Task[None] | None = None

    def methods(self) -> Methods:
        """Return what an engine offers, by path."""
        read, write = pb.HealthCheckRequest.FromString, _Status.SerializeToString
        return {
            f"/{NAME}/Check": Method(self._check, read=read, write=write),
            f"/{NAME}/Watch": Method(self._watch, response_streaming=True, read=read, write=write),
        }

    def drain(self) -> None:
        """Say NOT_SERVING from here on, to watchers too, whose streams then end."""
        self._draining = True
        self._tick.set()

    async def _check(self, request: Any, _context: Context) -> Any:
        """Answer with the status now; NOT_FOUND for a name that is not a servable's."""
        try:
            return _Status(status=self._status(request.service))
        except NotFound as error:
            raise CallFailed(outcome(error)) from None

    async def _watch(self, request: Any, context: Context) -> AsyncIterator[Any]:
        """Send the status now and at each change; SERVICE_UNKNOWN while there is none."""
        last = None
        self._enter()
        try:
            while not context.cancelled():
                tick = self._tick
                draining = self._draining
                try:
                    status = self._status(request.service)
                except NotFound:
                    status = _Status.SERVICE_UNKNOWN
                if status != last:
                    last = status
                    yield _Status(status=status)
                if draining:
                    return
                await tick.wait()
        finally:
            self._leave()

    def _status(self, service: str) -> Any:
        """Return SERVING or NOT_SERVING; raises NotFound for an unknown servable."""
        ready = self._plane.ready()
        if service:
            # Asked even when the answer is no already: an unknown name must stay unknown.
            try:
                ready = of_model(self._plane, service).ready and ready
            except Unavailable:
                ready = False
        return _Status.SERVING if ready and not self._draining else _Status.NOT_SERVING

    def _enter(self) -> None:
        self._watchers += 1
        if self._ticker is None:
            self._ticker = asyncio.get_running_loop().create_task(self._run())

    def _leave(self) -> None:
        self._watchers -= 1
        if not self._watchers and self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    async def _run(self) -> None:
        while not self._draining:
            await asyncio.sleep(TICK_S)
            tick, self._tick = self._tick, asyncio.Event()
            tick.set()
