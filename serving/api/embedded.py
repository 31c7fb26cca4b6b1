"""A master in somebody else's process: the parts of the server, brought up one by one."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from serving.api.selection import Selection, Terms
from serving.api.start_config import Wanted
from serving.config import ServerSettings
from serving.errors import LoadError
from serving.frontends.grpc.server import GrpcFrontEnd
from serving.frontends.rest.server import RestFrontEnd
from serving.lifecycle.state import State
from serving.master.banner import serves
from serving.master.core import Core, Door
from serving.repository.observation import Observation

_log = logging.getLogger("serving.api")


class Embedded:
    """Owns the parts. Event loop only; ``stop`` is the last that is called."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._selection: Selection | None = None
        self._core = Core(settings, self._look)
        self._doors: list[Door] = []

    async def serve(self, wanted: Sequence[Wanted]) -> None:
        """Bring servables up; returns when all of them serve. Raises ServingError: why not."""
        self._selection = Selection(wanted, Terms(self._settings.max_queue_size))
        await self._core.start()
        await self._core.watcher.first()
        reasons = [reason for want in wanted for reason in self._missing(want)]
        if reasons:
            raise LoadError("; ".join(reasons))
        for line in serves(self._core.plane):
            _log.info("%s", line)
        if self._settings.model_control == "poll":
            self._core.watcher.poll(self._settings.poll_interval_s)

    async def open_grpc(self, settings: ServerSettings, unix: str) -> None:
        """Listen for gRPC where ``settings`` say, or on the path ``unix``. Raises ConfigError."""
        door = GrpcFrontEnd(self._core.plane, settings, unix=unix)
        await door.start()
        self._doors.append(door)
        _log.info("gRPC %s%s", unix or _place(settings, door.port), _tls(settings))

    async def open_rest(self, settings: ServerSettings) -> None:
        """Listen for REST where ``settings`` say. Raises ConfigError."""
        door = RestFrontEnd(self._core.plane, settings)
        await door.start()
        self._doors.append(door)
        _log.info("REST %s%s", _place(settings, door.port), _tls(settings))

    async def stop(self) -> None:
        """Answer what was accepted, then let go of everything."""
        began = time.monotonic()
        try:
            await self._core.stop(self._doors, self._settings.drain_timeout_s)
        finally:
            if self._selection is not None:
                self._selection.close()
        _log.info("stopped in %.1f s", time.monotonic() - began)

    def bound_waiting(self, requests: int) -> None:
        """Let at most so many requests wait from now on."""
        self._settings = replace(self._settings, max_queue_size=requests)
        self._core.bound_waiting(requests)

    def _look(self, before: Observation | None) -> Observation | None:
        assert self._selection is not None, "serve() comes first"
        return self._selection(before)

    def _missing(self, want: Wanted) -> list[str]:
        """Say what keeps a wanted servable from serving as it was asked for."""
        manager = self._core.manager
        states = {n: v.state for (name, n), v in manager.versions.items() if name == want.name}
        absent = sorted(set(want.versions) - states.keys())
        if absent:
            there = want.directory / want.name
            return [f"servable '{want.name}' has no version {absent[0]} in {there}"]
        reasons = [f"servable '{want.name}' {reason}" for reason in manager.failures(want.name)]
        if not reasons and State.READY not in states.values():
            reasons = [f"servable '{want.name}' has no version that could be served"]
        return reasons


def _place(settings: ServerSettings, port: int) -> str:
    return f"[{settings.host}]:{port}" if ":" in settings.host else f"{settings.host}:{port}"


def _tls(settings: ServerSettings) -> str:
    return "" if settings.tls_cert is None else " (TLS)"
