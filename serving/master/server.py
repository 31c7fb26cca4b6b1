"""Builds the server, starts it in order, and stops it in the reverse order."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from serving import logs
from serving.config import ServerSettings
from serving.errors import ServingError
from serving.exit_codes import ExitCode, exit_code_for
from serving.frontends.shared_memory.regions import Registry
from serving.gateway.freed_memory import keep_freed_memory
from serving.lifecycle.gate import EXPLICIT
from serving.master import open_files
from serving.master.banner import banner
from serving.master.core import Core, Door
from serving.master.places import Place, take_devices

if TYPE_CHECKING:
    from serving.frontends.grpc.server import GrpcFrontEnd
    from serving.frontends.rest.server import RestFrontEnd
    from serving.master.gateways import Gateways

_log = logging.getLogger("serving.master")

_READY_POLL_S = 0.2


def run(settings: ServerSettings) -> int:
    """Serve until told to stop; returns the exit code."""
    logs.configure(settings.log_format, settings.log_level, "master")
    keep_freed_memory()
    try:
        open_files.take_all(settings)
        return int(uvloop.run(_serve(settings)))
    except ServingError as error:
        _log.error("%s", error)
        return int(exit_code_for(error))


async def _serve(settings: ServerSettings) -> ExitCode:
    return await Server(settings, await take_devices(settings)).run()


class Server:
    """Owns every part of the master. Constructing it does nothing yet."""

    def __init__(self, settings: ServerSettings, places: Sequence[Place]) -> None:
        self._settings = settings
        self._core = Core(settings, places=places)
        self._plane = self._core.plane
        self._regions = _regions(settings)
        if self._regions is not None:
            self._regions.on_unregister.append(self._core.forget_files)
        self._doors: tuple[Door, ...] = ()
        self._gateways: Gateways | None = None
        self._rest_port = self._grpc_port = 0
        self._stop_asked = asyncio.Event()
        self._announcing: asyncio.Task[None] | None = None
        self._signals = 0

    async def run(self) -> ExitCode:
        """Start, serve until a signal, stop."""
        self._catch_signals()
        self._remove_ready_file()  # of a server before that was killed
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
        """Open the doors while workers start and the first look is taken: each is a while of CPU.

        What fails first, such as a taken port, ends the others and is raised.
        """
        began = time.monotonic()
        try:
            async with asyncio.TaskGroup() as parts:
                parts.create_task(self._core.start())
                parts.create_task(self._core.watcher.first(_begin_with(self._settings)))
                parts.create_task(self._open())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        took_s = time.monotonic() - began
        for line in banner(self._settings, self._rest_port, self._grpc_port, self._plane, took_s):
            _log.info("%s", line)
        # What start-up made stays: the collector need not walk it again under load.
        gc.collect()
        gc.freeze()
        if self._settings.ready_file is not None:
            self._announcing = asyncio.create_task(self._announce(self._settings.ready_file))
        if self._settings.model_control == "poll":
            self._core.watcher.poll(self._settings.poll_interval_s)

    async def _open(self) -> None:
        """Listen. Raises ConfigError for an address that cannot be had."""
        if self._settings.frontends > 1:
            await self._open_apart()
            return
        # On a thread: meanwhile what workers and the helper say is heard.
        rest_kind, grpc_kind = await asyncio.to_thread(_front_ends)
        rest = rest_kind(self._plane, self._settings, regions=self._regions)
        grpc = grpc_kind(self._plane, self._settings, regions=self._regions)
        self._doors = rest, grpc
        await rest.start()
        await grpc.start()
        self._rest_port, self._grpc_port = rest.port, grpc.port

    async def _open_apart(self) -> None:
        """Have processes of their own listen."""
        from serving.master.gateways import Gateways

        tokens = self._core.gate.tokens
        arena, regions = self._core.arena, self._regions
        self._gateways = gateways = Gateways(self._settings, self._plane, arena, tokens, regions)
        self._core.serve_by(gateways)
        self._doors = (gateways,)
        await gateways.start()
        self._rest_port, self._grpc_port = gateways.rest_port, gateways.grpc_port

    async def _stop(self) -> None:
        """Not ready → stop accepting → finish what was accepted → workers → memory."""
        began = time.monotonic()
        self._plane.draining = True
        if self._announcing is not None:
            self._announcing.cancel()
        self._remove_ready_file()
        await self._core.stop(self._doors, self._settings.drain_timeout_s)
        if self._regions is not None:
            await self._regions.unregister()
        _log.info("stopped in %.1f s", time.monotonic() - began)

    # -- signals -------------------------------------------------------------------------------

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # started by nohup
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
        if self._gateways is not None:
            self._gateways.kill()
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
        if self._gateways is not None:
            await self._gateways.caught_up()
        told = {
            "pid": os.getpid(),
            "host": self._settings.host,
            "rest_port": self._rest_port,
            "grpc_port": self._grpc_port,
            "tls": self._settings.tls_cert is not None,
        }
        draft = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            draft.write_text(json.dumps(told))
            draft.replace(file)
        except OSError as error:
            _log.error("the ready file %s cannot be written: %s", file, error.strerror)

    def _remove_ready_file(self) -> None:
        if self._settings.ready_file is not None:
            Path(self._settings.ready_file).unlink(missing_ok=True)


def _front_ends() -> tuple[type[RestFrontEnd], type[GrpcFrontEnd]]:
    """Import the front ends, which is most of what the master imports."""
    from serving.frontends.grpc.server import GrpcFrontEnd
    from serving.frontends.rest.server import RestFrontEnd

    return RestFrontEnd, GrpcFrontEnd


def _regions(settings: ServerSettings) -> Registry | None:
    """Return where clients' shared memory is registered; None where they may not use any."""
    if not settings.client_shared_memory:
        return None
    return Registry(settings.memory_mb << 20, settings.max_request_mb << 20)


def _begin_with(settings: ServerSettings) -> frozenset[str] | None:
    """Return the servables to load at the start; None for all there are."""
    given = settings.load_servables or ""
    names = frozenset(name.strip() for name in given.split(",") if name.strip())
    return names if settings.model_control == EXPLICIT and "*" not in names else None
