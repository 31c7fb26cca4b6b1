"""Carry one inference call through: body, codec, claims, answers, codec, response.

Runs on the event loop's thread. Decoding and encoding of large messages run on a small pool of
threads; the data plane is only ever touched from the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Protocol, TypeVar

from serving.dataplane import Claim, DataPlane
from serving.errors import InternalError, ServingError, Unavailable
from serving.frontends.rest.asgi import (
    ClientGone,
    Receive,
    Scope,
    Send,
    send_before_reading,
    send_response,
)
from serving.frontends.rest.body import BodyBudget, BodyMemoryFull, BodyTooLarge
from serving.frontends.rest.inflate import inflate
from serving.frontends.rest.status import http_status, retry_headers
from serving.frontends.rest.wire import Call, Describe, Headers, Reply, request_id
from serving.request import Description, InferResponse

LARGE_BYTES = 256 * 1024
"""Bodies and answers above this leave the event loop: about a millisecond of JSON."""

_WATCH_AFTER_S = 0.02
"""Calls that take longer watch for the client's going away; for the others it costs too much."""

ErrorForm = Callable[[ServingError, str], tuple[bytes, bytes]]
_T = TypeVar("_T")
_log = logging.getLogger("serving.rest")


class WireFormat(Protocol):
    """One route's codec, bound to what its URL says."""

    def decode(self, body: bytes, headers: Headers, describe: Describe, now: float) -> Call:
        """Decode a body; raises a ``ServingError``. May run on another thread."""
        ...

    def decodes_fast(self, size: int, headers: Headers, describe: Describe, /) -> bool:
        """Return whether even a large body is decoded without work per element."""
        ...

    def error(self, error: ServingError, request_id: str) -> tuple[bytes, bytes]:
        """Return an error's body and content type."""
        ...


class Inference:
    """Runs decoded calls on the data plane; one object serves all inference routes."""

    def __init__(self, plane: DataPlane, budget: BodyBudget, pool: Executor) -> None:
        self._plane = plane
        self._budget = budget
        self._pool = pool

    async def serve(self, scope: Scope, receive: Receive, send: Send, form: WireFormat) -> None:
        """Answer one POST; what fails is answered in the wire format's own form."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        try:
            reply = await self._reply(headers, receive, form)
        except ClientGone:
            return
        except ServingError as error:
            await send_error(headers, receive, send, error, form.error)
        except Exception:
            failure = InternalError("the server failed")
            await send_error(headers, receive, send, failure, form.error, log_trace=True)
        else:
            await send_response(
                send, 200, reply.content_type, reply.body, (*reply.headers, *echo(headers))
            )

    async def _reply(self, headers: Headers, receive: Receive, form: WireFormat) -> Reply:
        body, taken = await self._budget.read(receive, headers)
        try:
            if len(body) <= LARGE_BYTES and b"content-encoding" not in headers:
                call = form.decode(body, headers, self._plane.describe, time.monotonic())
            else:
                call = await self._decode_large(body, headers, form)
            claims = self._claim(call)
            responses = await self._answers(claims, receive)
        finally:
            if taken:
                self._budget.give_back(taken)
        size = sum([tensor.nbytes for response in responses for tensor in response.outputs])
        if size > LARGE_BYTES and not call.encodes_fast:
            return await self._encode_large(call, responses)
        try:
            return call.encode(responses)
        finally:
            _release(responses)

    async def _decode_large(self, body: bytes, headers: Headers, form: WireFormat) -> Call:
        coding = headers.get(b"content-encoding")
        if coding is not None:
            limit = self._budget.limit_bytes
            body = await self._in_pool(lambda: inflate(body, coding, limit))
        now = time.monotonic()
        if form.decodes_fast(len(body), headers, self._plane.describe):
            return form.decode(body, headers, self._plane.describe, now)
        describe = self._describe_from_thread(asyncio.get_running_loop())
        return await self._in_pool(lambda: form.decode(body, headers, describe, now))

    async def _encode_large(self, call: Call, responses: list[InferResponse]) -> Reply:
        """Encode on a thread; the rows outlive it even when this task is cancelled."""
        encoded = self._in_pool(lambda: call.encode(responses))
        encoded.add_done_callback(lambda _: _release(responses))
        return await asyncio.shield(encoded)

    def _in_pool(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _describe_from_thread(self, loop: asyncio.AbstractEventLoop) -> Describe:
        """Return a ``describe`` for other threads, which asks on the event loop."""

        async def ask(servable: str | None, version: int | None) -> Description:
            return self._plane.describe(servable, version)

        def describe(servable: str | None, version: int | None) -> Description:
            return asyncio.run_coroutine_threadsafe(ask(servable, version), loop).result()

        return describe

    def _claim(self, call: Call) -> list[Claim]:
        """Claim and commit all requests of the call, or none of them."""
        claims: list[Claim] = []
        try:
            for request in call.requests:
                claims.append(self._plane.claim(request))
            for claim in claims:
                self._plane.commit(claim)
        except BaseException:
            self._drop(claims)
            raise
        return claims

    async def _answers(self, claims: Sequence[Claim], receive: Receive) -> list[InferResponse]:
        """Wait for all answers; when one fails or the client goes, give the others back."""
        try:
            if not all(claim.answer.done() for claim in claims):
                await _wait(claims, receive)
            return _results(claims)
        except BaseException:
            self._drop(claims)
            raise

    def _drop(self, claims: Sequence[Claim]) -> None:
        """Abandon what is not answered, release what is."""
        for claim in claims:
            answer = claim.answer
            if not answer.done():
                self._plane.abandon(claim)
            elif not answer.cancelled() and answer.exception() is None:
                answer.result().release()


async def _wait(claims: Sequence[Claim], receive: Receive) -> None:
    """Return when all claims are answered or one has failed; raises ClientGone."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bool] = loop.create_future()
    left = len(claims)

    def one(answer: asyncio.Future[InferResponse]) -> None:
        nonlocal left
        left -= 1
        failed = answer.cancelled() or answer.exception() is not None
        if (failed or not left) and not done.done():
            done.set_result(True)

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if not done.done():
            done.set_result(False)

    watchers: list[asyncio.Task[None]] = []
    timer = loop.call_later(_WATCH_AFTER_S, lambda: watchers.append(loop.create_task(watch())))
    for claim in claims:
        claim.answer.add_done_callback(one)
    try:
        if not await done:
            raise ClientGone
    finally:
        timer.cancel()
        for watcher in watchers:
            watcher.cancel()


def _results(claims: Sequence[Claim]) -> list[InferResponse]:
    """Return the answers, or raise the error of the first claim that has failed.

    After a failure others may still be open, so the failure is looked for first.
    """
    answers = [claim.answer for claim in claims]
    for answer in answers:
        if answer.cancelled():
            raise Unavailable("the request was withdrawn by the server", retry_after_s=1.0)
        error = answer.exception() if answer.done() else None
        if error is not None:
            raise error
    return [answer.result() for answer in answers]


def _release(responses: Sequence[InferResponse]) -> None:
    for response in responses:
        response.release()


def echo(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the response header that repeats the client's request id, if it gave one."""
    id = request_id(headers)
    return [(b"x-request-id", id.encode())] if id else []


async def send_error(
    headers: Headers,
    receive: Receive,
    send: Send,
    error: ServingError,
    form: ErrorForm,
    *,
    log_trace: bool = False,
    extra: Sequence[tuple[bytes, bytes]] | None = None,
) -> None:
    """Send an error in a wire format's form; faults of the server are logged with their id."""
    id = request_id(headers) or secrets.token_hex(8)
    if log_trace:
        _log.exception("request %s failed", id)
    body, content_type = form(error, id)
    added = [*retry_headers(error), *echo(headers), *(extra or ())]
    if isinstance(error, (BodyTooLarge, BodyMemoryFull)):
        await send_before_reading(receive, send, http_status(error), content_type, body, added)
    else:
        await send_response(send, http_status(error), content_type, body, added)
