"""Keeps the front-end processes running, and tells them what is served.

The master has the listening sockets, which every process inherits: what waits to be accepted waits
there, whoever ends. It accepts nothing itself.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterable
from typing import Any

from serving.channel.arena import Arena
from serving.config import ServerSettings
from serving.errors import ServingError
from serving.frontends.acceptor import Shares
from serving.frontends.grpc.lane.listening import listeners, port_taken
from serving.frontends.rest.listening import listen
from serving.frontends.shared_memory.regions import Registry
from serving.gateway.messages import Ready, Table
from serving.lifecycle.gate import Tokens
from serving.master.backoff import restart_delay
from serving.master.desk import Desk, Send
from serving.master.entries import doors_of, standing_of
from serving.master.gateway import Gateway, GatewaySpec, name_of
from serving.master.plane import MasterPlane
from serving.master.usage import usage_of
from serving.master.watchdog import Watchdog
from serving.statistics import WorkerStatistics

_log = logging.getLogger("serving.gateway")

_START_S = 60.0
_LEAVE_S = 2.0
_LATE_S = 1.0
_TICK_S = 0.1
_TICK_SHARE = 0.02
"""So much of the master's time may go into looking for changes."""
_READY_COSTS_S = 0.001
"""Of thousands of servables readiness is only asked for now and then."""
_TRIM_EVERY_S = 5.0


class _NoRuns:
    """Front ends run nothing; see ``watchdog.Runs``."""

    def limit_s(self, run: int) -> float:
        """Return that there is no limit."""
        del run
        return 0.0

    def overdue(self, run: int) -> None:
        """Never happens."""


class Gateways:
    """Owns the listening sockets and the front-end processes: a ``core.Door``. Event loop only.

    ``arena`` has the segments that answers lie in. What is received lies in segments of their own,
    within ``memory_mb`` as well. ``registry`` has the regions of clients, if they may have any.
    """

    def __init__(
        self,
        settings: ServerSettings,
        plane: MasterPlane,
        arena: Arena,
        tokens: Tokens,
        registry: Registry | None = None,
    ) -> None:
        self._settings = settings
        self._plane = plane
        self._arena = arena
        self._tokens = tokens
        self._registry = registry
        if registry is not None:
            registry.on_register.append(self._regions_changed)
            registry.on_unregister.append(self._regions_changed)
        self._trays = Arena(settings.memory_mb << 20)
        self._spec: GatewaySpec | None = None
        self._sockets: list[socket.socket] = []
        self._pages: list[Shares] = []
        self._page_fds: list[int] = []
        self._in_place: dict[int, Gateway] = {}
        self._processes: set[Gateway] = set()
        self._ends: dict[int, collections.deque[float]] = {
            place: collections.deque(maxlen=16) for place in range(settings.frontends)
        }
        self._restarts: collections.Counter[int] = collections.Counter()
        self._replacing: set[asyncio.Task[None]] = set()
        self._standings: dict[str, dict[str, Any]] = {}
        self._ready_took_s = 0.0
        self._tables = 0
        self._was_ready = False
        self._stopping = False
        self._ticker: asyncio.Task[None] | None = None
        self._watchdog = Watchdog(self._watched, _NoRuns(), settings.heartbeat_timeout_s)
        self.rest_port = self.grpc_port = 0

    async def start(self) -> None:
        """Listen, and start the processes; returns once all take requests.

        Raises ConfigError for an address that cannot be had, Unavailable for a process that does
        not come up.
        """
        self._listen()
        self._plane.on_route = self._route_changed
        self._look()
        self._ticker = asyncio.create_task(self._tick_for_ever())
        self._watchdog.start()
        try:
            async with asyncio.TaskGroup() as group:
                for place in range(self._settings.frontends):
                    group.create_task(self._fill(place))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def drain(self, deadline_s: float) -> None:
        """Have all accept nothing more and answer what was accepted; see ``Door``."""
        self._stopping = True
        for task in self._replacing:
            task.cancel()
        self._look()
        self._close_sockets()
        processes = list(self._processes)
        for process in processes:
            process.drain(deadline_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s + _LATE_S):
                for process in processes:
                    await process.drained.wait()

    async def stop(self) -> None:
        """End the processes; see ``Door``."""
        self._stopping = True
        self._watchdog.stop()
        if self._ticker is not None:
            self._ticker.cancel()
        self._close_sockets()
        for task in self._replacing:
            task.cancel()
        for process in self._processes:
            process.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await self._all_gone()
        self.kill()
        await self._all_gone()
        for page in self._pages:
            page.close()
        for fd in self._page_fds:
            os.close(fd)
        self._pages.clear()
        self._page_fds.clear()
        self._trays.close()

    def kill(self) -> None:
        """End every process at once."""
        for process in list(self._processes):
            process.kill()

    async def caught_up(self) -> None:
        """Return once all processes know what is served now; a silent one is not waited for."""
        self._look()
        asked = [asyncio.create_task(each.reached()) for each in self._serving()]
        if asked:
            _, late = await asyncio.wait(asked, timeout=_LATE_S)
            for task in late:
                task.cancel()

    def statistics(self) -> tuple[WorkerStatistics, ...]:
        """Return how the place of each process stands."""
        return tuple(
            WorkerStatistics(name_of(place), self._restarts[place], self._usage(place))
            for place in range(self._settings.frontends)
        )

    def forget_segment(self, segment: int) -> None:
        """A segment that answers lay in is being closed."""
        for process in self._serving():
            process.desk.forget(segment)

    # -- processes -----------------------------------------------------------------------------

    async def _fill(self, place: int) -> None:
        """Start a process for a place. Raises Unavailable."""
        assert self._spec is not None
        process = Gateway(place, self._spec, self._desk, self._on_lost, self._on_reaped)
        self._processes.add(process)
        try:
            await process.start(_START_S, self._tell_all)
        except BaseException:
            self._processes.discard(process)
            raise
        self._in_place[place] = process

    def _desk(self, send: Send) -> Desk:
        trays, registry = self._trays, self._registry
        return Desk(self._plane, self._arena, trays, send, self.caught_up, registry)

    def _on_lost(self, process: Gateway) -> None:
        for page in self._pages:
            page.absent(process.place)
        if self._in_place.get(process.place) is process:
            del self._in_place[process.place]

    def _on_reaped(self, process: Gateway) -> None:
        self._processes.discard(process)
        if not process.served or process.stopping or self._stopping:
            return  # of one that did not start, whoever started it hears
        extra = {"worker": process.name, "pid": process.pid}
        _log.error("a front end ended: %s; its connections are lost", process.why, extra=extra)
        self._begin_replacing(process.place)

    def _begin_replacing(self, place: int) -> None:
        self._ends[place].append(time.monotonic())
        task = asyncio.create_task(self._replace(place))
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _replace(self, place: int) -> None:
        await asyncio.sleep(restart_delay(self._ends[place], time.monotonic()))
        self._restarts[place] += 1
        try:
            await self._fill(place)
        except ServingError as error:
            _log.error("%s", error, extra={"worker": name_of(place)})
            self._begin_replacing(place)
        else:
            _log.info("a front end was started again", extra={"worker": name_of(place)})

    def _watched(self) -> Iterable[Any]:
        return [process for process in self._processes if not process.lost]

    def _serving(self) -> list[Gateway]:
        return list(self._in_place.values())

    def _usage(self, place: int) -> Any:
        process = self._in_place.get(place)
        return None if process is None else usage_of(process.pid)

    async def _all_gone(self) -> None:
        for process in list(self._processes):
            await process.gone.wait()

    # -- sockets -------------------------------------------------------------------------------

    def _listen(self) -> None:
        settings = self._settings
        rest = listen(settings.host, settings.rest_port)
        self._sockets = [rest]
        self.rest_port = int(rest.getsockname()[1])
        try:
            # grpcio takes no socket of others, so each process has its own on a port held here.
            hold = settings.grpc_engine == "grpcio"
            grpc = listeners(settings.host, settings.grpc_port, hold=hold)
        except (OSError, OverflowError):
            self._close_sockets()
            raise port_taken(settings) from None
        self._sockets += grpc
        self.grpc_port = int(grpc[0].getsockname()[1])
        self._page_fds = [Shares.create(settings.frontends) for _ in range(2)]
        self._pages = [Shares(fd, settings.frontends) for fd in self._page_fds]
        fds = [each.fileno() for each in grpc]
        self._spec = GatewaySpec(settings, self._tokens, rest.fileno(), fds, *self._page_fds)

    def _close_sockets(self) -> None:
        for each in self._sockets:
            each.close()
        self._sockets.clear()

    # -- what is served ------------------------------------------------------------------------

    def _route_changed(self, servable: str) -> None:
        """Tell of a servable at once: who learns that it serves may ask for it next."""
        routes = self._plane.routes
        versions = routes.standings(servable)
        if versions or servable in self._standings or servable in routes:
            self._standings[servable] = standing_of(routes, servable, versions)
        self._tell({servable})
        if self._ready_took_s < _READY_COSTS_S:
            self._look_at_readiness()
        for process in self._informed():
            process.flush()

    async def _tick_for_ever(self) -> None:
        trimmed = time.monotonic()
        while True:
            began = time.monotonic()
            self._look()
            took_s = time.monotonic() - began
            if began - trimmed > _TRIM_EVERY_S:
                trimmed = began
                self._trays.trim()
            await asyncio.sleep(max(_TICK_S, took_s / _TICK_SHARE))

    def _look(self) -> None:
        """Tell all processes what has changed since the last look."""
        routes = self._plane.routes
        now = {
            name: standing_of(routes, name, versions)
            for name, versions in routes.everything().items()
        }
        before, self._standings = self._standings, now
        changed = {name for name, told in now.items() if before.get(name) != told}
        self._tell(changed | (before.keys() - now.keys()))
        self._look_at_readiness()

    def _look_at_readiness(self) -> None:
        began = time.monotonic()
        ready = self._plane.ready()
        self._ready_took_s = time.monotonic() - began
        if ready != self._was_ready:
            self._was_ready = ready
            for process in self._informed():
                process.send(Ready(ready))

    def _tell(self, changed: set[str]) -> None:
        if changed:
            self._tables += 1
            table = Table(self._tables, {name: self._entry(name) for name in changed})
            for process in self._informed():
                process.send(table)

    def _informed(self) -> list[Gateway]:
        return [each for each in self._processes if each.informed and not each.lost]

    def _tell_all(self, process: Gateway) -> None:
        """Tell a new process everything."""
        process.send(Table(self._tables, {name: self._entry(name) for name in self._standings}))
        process.send(Ready(self._was_ready))
        process.desk.tell_regions()

    def _regions_changed(self) -> None:
        for process in self._informed():
            process.desk.tell_regions()

    def _entry(self, servable: str) -> dict[str, Any] | None:
        standing = self._standings.get(servable)
        if standing is None:
            return None
        return {**standing, **doors_of(self._plane.routes, servable)}
