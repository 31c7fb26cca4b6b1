"""Measures one load after another on one server, with a line of what is going on meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio
import uvloop

from serving.bench.check import Check
from serving.bench.connection import Answer, Connection, GrpcConnection, HttpConnection
from serving.bench.load import Load, Request, Run
from serving.bench.payload import Payload, http_request
from serving.bench.point import Point, batches_between, milliseconds, point
from serving.errors import ServingError, Unavailable

_CHANNELS = 8
_TIMEOUT_S = 60.0
_TELL_S = 0.5

Statistics = Callable[[], dict[str, Any] | None]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What to send where, for how long; ``token`` is what the server asks its clients for.

    ``statistics`` asks the server for its V2 statistics (None where it has none); it is called
    from another thread. ``tell`` hears how a run goes, twice a second.
    """

    servable: str
    protocol: str
    host: str
    port: int
    payloads: Sequence[Payload]
    loads: Sequence[Load]
    warm_up_s: float
    seconds: float
    checked: bool
    statistics: Statistics
    tell: Tell
    token: str | None = None


def measure(plan: Plan, points: list[Point] | None = None) -> list[Point]:
    """Measure every load. Raises a ServingError when even a single request does not go well.

    ``points`` are added to one by one: whoever is interrupted has those before.
    """
    found: list[Point] = [] if points is None else points
    uvloop.run(_Sweep(plan).run(found))
    return found


class _Sweep:
    """Owns the gRPC channels of a sweep, which its runs share."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._channels: list[grpc.aio.Channel] = []
        self._turn = 0

    async def run(self, points: list[Point]) -> None:
        plan = self._plan
        host = f"{plan.host}:{plan.port}"
        grpc_wire = plan.protocol == "grpc"
        requests = [
            Request(i, p.body if grpc_wire else http_request(p, host, plan.token), p.rows)
            for i, p in enumerate(plan.payloads)
        ]
        try:
            check = Check(plan.protocol)
            await self._learn(requests, check)
            for load in plan.loads:
                points.append(await self._point(load, requests, check if plan.checked else None))
        finally:
            for channel in self._channels:
                await channel.close()

    async def _learn(self, requests: Sequence[Request], check: Check) -> None:
        """Send each request once, alone: what comes back is right, or there is nothing to do."""
        connection = self._connect()
        try:
            for request in requests:
                heard: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
                connection.send(request.data, heard.set_result)
                async with asyncio.timeout(_TIMEOUT_S):
                    answer = await heard
                if not answer.good:
                    raise Unavailable(
                        f"the first request was not answered: {answer.reason}", code="refused"
                    )
                check.learn(request.number, answer.body, answer.headers)
        except TimeoutError:
            raise Unavailable(
                f"the first request had no answer within {_TIMEOUT_S:g} s", code="no_answer"
            ) from None
        except ValueError as error:
            raise Unavailable(f"the first answer: {error}", code="bad_answer") from None
        finally:
            connection.close()

    async def _point(self, load: Load, requests: Sequence[Request], check: Check | None) -> Point:
        plan = self._plan
        before = await asyncio.to_thread(self._ask_statistics)
        run = Run(self._connect, requests, check)
        telling = asyncio.create_task(self._tell(load, run))
        worked, began = time.process_time(), time.perf_counter()
        try:
            if load.rate:
                record = await run.open(load.rate, plan.warm_up_s, plan.seconds)
            else:
                record = await run.closed(load.clients, plan.warm_up_s, plan.seconds)
            busy = (time.process_time() - worked) / (time.perf_counter() - began)
        finally:
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling
            run.close()
        after = await asyncio.to_thread(self._ask_statistics)
        batches = batches_between(before, after, plan.servable)
        return point(load, record, plan.seconds, batches, busy)

    def _ask_statistics(self) -> dict[str, Any] | None:
        try:
            return self._plan.statistics()
        except ServingError:
            return None  # a peer that keeps none: the table then has no batch sizes

    async def _tell(self, load: Load, run: Run) -> None:
        began = time.perf_counter()
        all_s = self._plan.warm_up_s + self._plan.seconds
        answered = 0
        while True:
            await asyncio.sleep(_TELL_S)
            record = run.record
            rate = (record.answers - answered) / _TELL_S
            answered = record.answers
            self._plan.tell(
                f"load {load.text}: {time.perf_counter() - began:.0f} of {all_s:.0f} s, "
                f"{rate:,.0f} requests/s, p50 {milliseconds(record.percentile_ms(50))} ms, "
                f"p99 {milliseconds(record.percentile_ms(99))} ms, {record.failures} errors"
            )

    def _connect(self) -> Connection:
        plan = self._plan
        if plan.protocol != "grpc":
            return HttpConnection(plan.host, plan.port)
        if len(self._channels) < _CHANNELS:
            # Own sockets: channels of one process to one address share a connection otherwise.
            options = [
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_receive_message_length", -1),
            ]
            self._channels.append(
                grpc.aio.insecure_channel(f"{plan.host}:{plan.port}", options=options)
            )
        self._turn += 1
        channel = self._channels[self._turn % len(self._channels)]
        return GrpcConnection(channel, _TIMEOUT_S, plan.token)
