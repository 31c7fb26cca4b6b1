"""Carry one inference call through the ordinary way: body, codec, exchange, response.

Takes every call; those that are small and plain usually go by the lane instead. Runs on the
event loop's thread. Large messages are decoded and encoded on a small pool of threads; the data
plane is only ever touched from the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar, cast

from serving.dataplane import DataPlane
from serving.frontends.method import Describe
from serving.frontends.rest import large_body
from serving.frontends.rest.asgi import (
    ClientGone,
    Receive,
    Scope,
    Send,
    send_and_close,
    send_response,
)
from serving.frontends.rest.body import BodyBudget, BodyMemoryFull, BodyTooLarge
from serving.frontends.rest.exchange import LARGE_BYTES, Exchange, Outcome
from serving.frontends.rest.inference_route import WireFormat
from serving.frontends.rest.inflate import inflate
from serving.frontends.rest.refusal import refusal
from serving.frontends.rest.shared_calls import SharedCalls
from serving.frontends.rest.wire import Call, Headers, Reply, echo
from serving.request import Description, VersionName

_WATCH_AFTER_S = 0.02
"""Calls that take longer watch for the client's going away; for the others it costs too much."""

_T = TypeVar("_T")


class Inference:
    """Runs calls that came over ASGI; one object serves all inference routes."""

    def __init__(
        self, plane: DataPlane, budget: BodyBudget, pool: Executor, shared: SharedCalls
    ) -> None:
        self._plane = plane
        self._budget = budget
        self._pool = pool
        self._shared = shared

    async def serve(self, scope: Scope, receive: Receive, send: Send, form: WireFormat) -> None:
        """Answer one POST; what fails is answered in the wire format's own form."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        try:
            reply = await self._reply(scope, headers, receive, form)
        except ClientGone:
            return
        except (BodyTooLarge, BodyMemoryFull) as error:
            reply = refusal(error, headers, form.error, self._plane)
            await send_and_close(send, reply, echo(headers))
            return
        except Exception as error:
            reply = refusal(error, headers, form.error, self._plane)
        await send_response(send, reply, echo(headers))

    async def _reply(
        self, scope: Scope, headers: Headers, receive: Receive, form: WireFormat
    ) -> Reply:
        body: bytes | memoryview
        # Taken out of the scope, which it refers to.
        read_into = scope.get("extensions", {}).pop(large_body.EXTENSION, None)
        if read_into is None:
            body, taken = await self._budget.read(receive, headers)
        else:
            body, taken = await self._budget.read_straight(read_into, headers)
        try:
            if (
                isinstance(body, bytes)
                and len(body) <= LARGE_BYTES
                and b"content-encoding" not in headers
            ):
                call = form.decode(bytes(body), headers, self._plane.describe, time.monotonic())
            else:
                call = await self._decode_large(body, headers, form)
            whole = self._shared.whole(call, headers, scope.get("client"))
            call = await whole if isinstance(whole, asyncio.Future) else whole
            return await self._exchange(call, receive, form.exchange)
        finally:
            if taken:
                self._budget.give_back(taken)

    async def _decode_large(
        self, body: bytes | memoryview, headers: Headers, form: WireFormat
    ) -> Call:
        coding = headers.get(b"content-encoding")
        if coding is not None:
            limit = self._budget.limit_bytes
            body = await self._in_pool(lambda: inflate(bytes(body), coding, limit))
        now = time.monotonic()
        if form.decodes_fast(len(body), headers, self._plane.describe):
            # Read only, in place: memory that nobody else has does for bytes.
            return form.decode(cast(bytes, body), headers, self._plane.describe, now)
        describe = self._describe_from_thread(asyncio.get_running_loop())
        return await self._in_pool(lambda: form.decode(bytes(body), headers, describe, now))

    def _in_pool(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _describe_from_thread(self, loop: asyncio.AbstractEventLoop) -> Describe:
        """Return a ``describe`` for other threads, which asks on the event loop."""

        async def ask(
            servable: str | None, version: VersionName | None, method: str | None
        ) -> Description:
            return self._plane.describe(servable, version, method)

        def describe(
            servable: str | None, version: VersionName | None, method: str | None
        ) -> Description:
            asked = ask(servable, version, method)
            return asyncio.run_coroutine_threadsafe(asked, loop).result()

        return describe

    async def _exchange(self, call: Call, receive: Receive, kind: type[Exchange]) -> Reply:
        """Run the call; gives it up when the client goes away or this task is cancelled."""
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        exchange = kind(self._plane, self._pool, call, lambda found: _settle(outcome, found))
        exchange.start()
        try:
            found = await _watched(outcome, receive)
        finally:
            exchange.abandon()
        if isinstance(found, Exception):
            raise found
        return found


async def _watched(outcome: asyncio.Future[Outcome], receive: Receive) -> Outcome:
    """Return the outcome, which is ClientGone once the client has gone."""
    loop = asyncio.get_running_loop()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        _settle(outcome, ClientGone())

    watchers: list[asyncio.Task[None]] = []
    timer = loop.call_later(_WATCH_AFTER_S, lambda: watchers.append(loop.create_task(watch())))
    try:
        return await outcome
    finally:
        timer.cancel()
        for watcher in watchers:
            watcher.cancel()


def _settle(outcome: asyncio.Future[Outcome], found: Outcome) -> None:
    if not outcome.done():
        outcome.set_result(found)
