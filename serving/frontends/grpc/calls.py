"""What the calls of every gRPC service have in common: running, draining, ending in an error.

Runs on the event loop of the front ends; work that goes element by element is done on a few
threads, so that one client's long list of strings does not stop everybody's calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import Executor
from typing import TypeVar, TypeVarTuple

from serving.dataplane import DataPlane
from serving.errors import Cancelled, InternalError, ServingError, Unavailable
from serving.frontends.grpc.methods import CallFailed, Context, Direct, Method, Shortcut
from serving.frontends.grpc.status import Outcome
from serving.request import InferRequest, InferResponse

REQUEST_ID = "x-request-id"

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Call = Callable[[bytes, Context], Awaitable[bytes]]
"""A unary call: takes and gives serialised messages, raises ServingError."""

_log = logging.getLogger("serving.frontends.grpc")


class Inference:
    """Runs requests on the data plane and knows when the last has ended.

    One for all services of a ``GrpcFrontEnd``, which owns it. ``under_way`` counts the calls.
    """

    def __init__(self, plane: DataPlane, threads: Executor) -> None:
        self.plane = plane
        self._threads = threads
        self.under_way = 0
        self._draining = False
        self._idle = asyncio.Event()

    def begin(self) -> None:
        """Hold off the end of a drain until ``end``; raises Unavailable when one has begun."""
        if self._draining:
            raise draining()
        self.under_way += 1

    def end(self) -> None:
        """Take back one ``begin``."""
        self.under_way -= 1
        if self._draining and not self.under_way:
            self._idle.set()

    async def drain(self) -> None:
        """Refuse new inference from here on; return when what was running has ended."""
        self._draining = True
        if not self.under_way:
            self._idle.set()
        await self._idle.wait()

    async def answer(self, request: InferRequest) -> InferResponse:
        """Run a request; the caller releases the response."""
        claim = self.plane.claim(request)
        try:
            self.plane.commit(claim)
            return await claim.answer
        except asyncio.CancelledError:
            # Either this call was cancelled (the client left, its deadline passed) or the plane
            # cancelled the answer. The answer may have come in between: nobody reads it now.
            self.plane.abandon(claim)
            _give_back(claim.answer)
            raise

    async def encode(
        self,
        response: InferResponse,
        encode: Callable[[InferResponse], bytes],
        heavy_bytes: int,
        *,
        slow: bool = False,
    ) -> bytes:
        """Encode a response and release it.

        On a thread when it holds more bytes of strings, or is ``slow`` to encode otherwise.
        """
        if not slow and not packs_many_strings(response, heavy_bytes):
            try:
                return encode(response)
            finally:
                response.release()
        encoding = self.on_thread(encode, response)
        # A cancelled call does not stop the thread, so the rows are given back when the thread
        # is through with them and not when the call ends.
        encoding.add_done_callback(lambda _: response.release())
        return await asyncio.shield(encoding)

    def on_thread(self, work: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run work on one of the front end's threads."""
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *args)


def draining() -> Unavailable:
    """Return what calls are told that come while the server stops."""
    return Unavailable("the server is shutting down", code="draining", retry_after_s=5.0)


def unary(
    service: str,
    calls: Mapping[str, Call],
    outcome: Callable[[ServingError], Outcome],
    plane: DataPlane,
    direct: Mapping[str, Direct] | None = None,
    views: Collection[str] = (),
) -> dict[str, Method]:
    """Return the methods of a service whose calls are all unary, by path.

    Whatever a call raises ends it with the status that ``outcome`` says; ``plane`` counts it.
    ``direct`` has the ways without a task, for engines that have such; ``views`` names those that
    take views.
    """

    def ending(error: BaseException) -> Outcome:
        return _ending(error, outcome, plane)

    ways = {name: Shortcut(begin, ending, name in views) for name, begin in (direct or {}).items()}
    return {
        f"/{service}/{name}": Method(_guarded(call, ending), ways.get(name))
        for name, call in calls.items()
    }


def request_id(context: Context) -> str:
    """Return the id that the call's metadata names, or nothing."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID:
            return str(value)
    return ""


def _guarded(call: Call, ending: Callable[[BaseException], Outcome]) -> Call:
    async def guarded(data: bytes, context: Context) -> bytes:
        try:
            return await call(data, context)
        except asyncio.CancelledError as withdrawn:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            end = ending(withdrawn)
        except Exception as error:
            end = ending(error)
        raise CallFailed(end)

    return guarded


def _ending(
    error: BaseException, outcome: Callable[[ServingError], Outcome], plane: DataPlane
) -> Outcome:
    """Return how a call ends that failed, and count it."""
    if isinstance(error, asyncio.CancelledError):
        known: ServingError = Cancelled("the request was withdrawn by the server")
    elif isinstance(error, ServingError):
        known = error
    else:
        _log.error("a gRPC call failed", exc_info=error)
        known = InternalError("the server failed on this request; its log says more")
    plane.answered_with(known, "grpc")
    return outcome(known)


def _give_back(answer: asyncio.Future[InferResponse]) -> None:
    if answer.done() and not answer.cancelled() and answer.exception() is None:
        answer.result().release()


def packs_many_strings(response: InferResponse, heavy_bytes: int) -> bool:
    """Return whether an answer holds more bytes of strings, which are written one by one."""
    for tensor in response.outputs:
        items = tensor.items
        if items is not None and 4 * len(items) + tensor.nbytes > heavy_bytes:
            return True
    return False
