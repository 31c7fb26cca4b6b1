"""Builds the server, starts it in order, and stops it in the reverse order."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import resource
import signal
import time
from pathlib import Path

import uvloop

from serving import logs
from serving.config import ServerSettings
from serving.errors import ServingError
from serving.exit_codes import ExitCode, exit_code_for
from serving.frontends.grpc.server import GrpcFrontEnd
from serving.frontends.rest.server import RestFrontEnd
from serving.frontends.shared_memory.regions import Regions
from serving.master.banner import banner
from serving.master.core import Core
from serving.master.gate import EXPLICIT

_log = logging.getLogger("serving.master")

_READY_POLL_S = 0.2


def run(settings: ServerSettings) -> int:
    """Serve until told to stop; returns the exit code."""
    logs.configure(settings.log_format, settings.log_level, "master")
    _raise_descriptor_limit()
    try:
        return int(uvloop.run(Server(settings).run()))
    except ServingError as error:
        _log.error("%s", error)
        return int(exit_code_for(error))


class Server:
    """Owns every part of the master. Constructing it does nothing yet."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._core = Core(settings)
        self._plane = self._core.plane
        self._regions = _regions(settings)
        self._rest = RestFrontEnd(self._plane, settings, regions=self._regions)
        self._grpc = GrpcFrontEnd(self._plane, settings, regions=self._regions)
        self._stop_asked = asyncio.Event()
        self._announcing: asyncio.Task[None] | None = None
        self._signals = 0

    async def run(self) -> ExitCode:
        """Start, serve until a signal, stop."""
        self._catch_signals()
        try:
            started = asyncio.create_task(self._start())
            stop = asyncio.create_task(self._stop_asked.wait())
            await asyncio.wait({started, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not started.done():
                started.cancel()
                await asyncio.wait({started})
            if not started.cancelled():
                started.result()
            await stop
        finally:
            await self._stop()
        return ExitCode.OK

    async def _start(self) -> None:
        """Bind first (a taken port is known at once), then bring workers and models up."""
        began = time.monotonic()
        await self._rest.start()
        await self._grpc.start()
        await self._core.start()
        await self._core.watcher.first(_begin_with(self._settings))
        took_s = time.monotonic() - began
        for line in banner(self._settings, self._rest.port, self._grpc.port, self._plane, took_s):
            _log.info("%s", line)
        # What start-up made stays: the collector need not walk it again under load.
        gc.collect()
        gc.freeze()
        # Nearly all that a request makes is gone with it, cycles or not: looking for rubbish after
        # every 700 objects took 6 % of a small request.
        gc.set_threshold(20_000, 20, 50)
        if self._settings.ready_file is not None:
            self._announcing = asyncio.create_task(self._announce(self._settings.ready_file))
        if self._settings.model_control == "poll":
            self._core.watcher.poll(self._settings.poll_interval_s)

    async def _stop(self) -> None:
        """Not ready → stop accepting → finish what was accepted → workers → memory."""
        began = time.monotonic()
        self._plane.draining = True
        if self._announcing is not None:
            self._announcing.cancel()
        self._remove_ready_file()
        await self._core.stop((self._rest, self._grpc), self._settings.drain_timeout_s)
        if self._regions is not None:
            self._regions.unregister()
        _log.info("stopped in %.1f s", time.monotonic() - began)

    # -- signals -------------------------------------------------------------------------------

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: int) -> None:
        self._signals += 1
        if self._signals == 1:
            _log.info(
                "%s: finishing what was accepted (at most %g s); once more to stop at once",
                signal.Signals(number).name,
                self._settings.drain_timeout_s,
            )
            self._stop_asked.set()
            return
        self._core.kill()
        self._remove_ready_file()
        # 128 + the signal's number, as a shell would report a process that it ended.
        os._exit(128 + number)

    # -- the ready file --------------------------------------------------------------------------

    async def _announce(self, file: Path) -> None:
        """Tell a waiting script where the server is; the file appears whole or not at all."""
        if not self._plane.ready():
            _log.warning("nothing can be served yet, so the ready file is not written")
        while not self._plane.ready():
            await asyncio.sleep(_READY_POLL_S)
        draft = file.with_name(f".{file.name}.{os.getpid()}")
        draft.write_text(
            json.dumps(
                {
                    "pid": os.getpid(),
                    "host": self._settings.host,
                    "rest_port": self._rest.port,
                    "grpc_port": self._grpc.port,
                    "tls": self._settings.tls_cert is not None,
                }
            )
        )
        draft.replace(file)

    def _remove_ready_file(self) -> None:
        if self._settings.ready_file is not None:
            Path(self._settings.ready_file).unlink(missing_ok=True)


def _regions(settings: ServerSettings) -> Regions | None:
    """Return where clients' shared memory is registered; None where they may not use any."""
    if not settings.client_shared_memory:
        return None
    return Regions(settings.memory_mb << 20, settings.max_request_mb << 20)


def _begin_with(settings: ServerSettings) -> frozenset[str] | None:
    """Return the servables to load at the start; None for all there are."""
    given = settings.load_servables or ""
    names = frozenset(name.strip() for name in given.split(",") if name.strip())
    return names if settings.model_control == EXPLICIT and "*" not in names else None


def _raise_descriptor_limit() -> None:
    """Connections, segments and links are descriptors: take all that the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
