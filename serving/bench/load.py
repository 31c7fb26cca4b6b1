"""Sends load for a while: a closed loop of so many clients, or an open loop at a rate.

Latency counts from when a request was *to be* sent: in an open loop, a server that stalls is
charged with all that had to wait for it, not only with the request it stalled on.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serving.bench.arrivals import poisson
from serving.bench.check import Check
from serving.bench.connection import Answer, Connection
from serving.bench.record import Record

_MOST_CONNECTIONS = 1024
_STRAGGLERS_S = 10.0

Connect = Callable[[], Connection]


@dataclass(frozen=True)
class Request:
    """One request as it goes over the wire, its number among the run's, and its rows."""

    number: int
    data: bytes
    rows: int


@dataclass(frozen=True)
class Load:
    """``clients`` of a closed loop, or (``rate`` above 0) requests a second of an open one."""

    clients: int = 1
    rate: float = 0.0

    @property
    def text(self) -> str:
        """How reports name it."""
        return f"{self.rate:g}/s" if self.rate else str(self.clients)


class Run:
    """One measured run. ``check`` None: answers are not compared. Made and used on one loop."""

    def __init__(self, connect: Connect, requests: Sequence[Request], check: Check | None) -> None:
        self._connect = connect
        self._requests = itertools.cycle(requests)
        self._check = check
        self._all: list[Connection] = []
        self._ends = float("inf")
        self._counts_from = 0.0
        self._open = 0
        self._idle = asyncio.Event()
        self.record = Record()
        self.seconds = 0.0

    async def closed(self, clients: int, warm_up_s: float, seconds: float) -> Record:
        """Let each of so many clients send its next request as soon as it has an answer."""
        connections = [self._new() for _ in range(clients)]
        self._begin(warm_up_s, seconds)
        for connection in connections:
            self._next(connection)
        return await self._finish()

    async def open(self, rate: float, warm_up_s: float, seconds: float) -> Record:
        """Send requests as a Poisson process would, whatever the server does."""
        free = [self._new() for _ in range(min(64, _MOST_CONNECTIONS))]
        waiting: list[float] = []

        def through(connection: Connection) -> None:
            if waiting:
                self._send(connection, waiting.pop(0), through)
            else:
                free.append(connection)

        began = self._begin(warm_up_s, seconds)
        for at in poisson(rate, warm_up_s + seconds):
            if (left := began + at - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            if not free and len(self._all) < _MOST_CONNECTIONS:
                free.append(self._new())
            if free:
                self._send(free.pop(), began + at, through)
            else:
                waiting.append(began + at)
        record = await self._finish()
        record.late += len(waiting)
        return record

    def close(self) -> None:
        """Hang up everywhere."""
        for connection in self._all:
            connection.close()

    # -- inside --------------------------------------------------------------------------------

    def _new(self) -> Connection:
        connection = self._connect()
        self._all.append(connection)
        return connection

    def _begin(self, warm_up_s: float, seconds: float) -> float:
        now = time.perf_counter()
        self._counts_from = now + warm_up_s
        self._ends = now + warm_up_s + seconds
        self.seconds = seconds
        return now

    def _next(self, connection: Connection) -> None:
        now = time.perf_counter()
        if now < self._ends:
            self._send(connection, now, self._next)

    def _send(
        self, connection: Connection, due: float, through: Callable[[Connection], None]
    ) -> None:
        request = next(self._requests)
        self._open += 1
        self._idle.clear()

        def heard(answer: Answer) -> None:
            self._open -= 1
            self._note(request, answer, due)
            through(connection)
            if not self._open:
                self._idle.set()

        connection.send(request.data, heard)

    def _note(self, request: Request, answer: Answer, due: float) -> None:
        now = time.perf_counter()
        if not self._counts_from <= now < self._ends:
            if now >= self._ends:
                self.record.late += 1
            return
        if not answer.good:
            self.record.failed(answer.reason)
        elif self._check is not None and not self._check.right(
            request.number, answer.body, answer.headers
        ):
            self.record.wrong += 1
        else:
            self.record.answered(now - due, request.rows)

    async def _finish(self) -> Record:
        """Wait for the end, and a while for what is still open: it counts for nothing."""
        left = self._ends - time.perf_counter()
        if left > 0:
            await asyncio.sleep(left)
        try:
            async with asyncio.timeout(_STRAGGLERS_S):
                while self._open:
                    await self._idle.wait()
        except TimeoutError:
            pass
        return self.record
