"""One gRPC call: runs its method, by the shortcut or as a task, and says how it ended.

It stands where grpcio has its ``ServicerContext``, so that services need not know the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from serving.frontends.grpc.lane.messages import BadMessage, Packed, unpacked
from serving.frontends.grpc.lane.metadata import Metadata, Value
from serving.frontends.grpc.lane.stream import Stream
from serving.frontends.grpc.methods import CallFailed, Method
from serving.frontends.grpc.methods import Running as Begun
from serving.frontends.grpc.status_code import StatusCode

if TYPE_CHECKING:
    from serving.frontends.grpc.lane.streams import Streams

HEAVY_BYTES = 4 << 10
"""A packed message over this is unpacked on a thread: a byte may stand for a thousand."""

_log = logging.getLogger("serving.frontends.grpc")


class Call:
    """Made by ``Streams`` once there is something to run; event loop only."""

    __slots__ = ("_begun", "_come", "_gone", "_method", "_over", "_stream", "_streams", "_task")

    def __init__(self, streams: Streams, stream: Stream, method: Method) -> None:
        self._streams = streams
        self._stream = stream
        self._method = method
        self._begun: Begun | None = None
        self._task: asyncio.Task[None] | None = None
        self._come: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] | None = None
        self._over = False

    # -- what a method may ask -------------------------------------------------------------------

    def invocation_metadata(self) -> Metadata:
        """Return what the client sent along, without the fields that belong to gRPC."""
        return self._stream.head.metadata

    def terms(self, id_key: str) -> tuple[str, float | None]:
        """Return the id that the metadata names, and the deadline; see ``DirectContext``."""
        stream = self._stream
        for key, value in stream.head.metadata:
            if key == id_key:
                return str(value), stream.deadline
        return "", stream.deadline

    def time_remaining(self) -> float | None:
        """Return the seconds left, None when the client set no deadline."""
        deadline = self._stream.deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def peer(self) -> str:
        """Return who calls, as grpcio names it: ``ipv4:127.0.0.1:40000``; empty if it has gone."""
        name = self._streams.peer_name
        if isinstance(name, str | bytes):
            return "unix:"
        if not isinstance(name, tuple):
            return ""
        host, port = name[:2]
        return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"

    def cancelled(self) -> bool:
        """Return whether nobody waits for this call any more."""
        return self._over

    # -- running ---------------------------------------------------------------------------------

    def run(self, message: bytes | memoryview) -> None:
        """Run a method that takes one message."""
        shortcut = self._method.shortcut
        if shortcut is not None:
            try:
                data = message if shortcut.views else bytes(message)
                self._begun = shortcut.begin(data, self, self._finish)
            except Exception as error:
                self._finish(error)
                return
            if self._begun is not None:
                return
        self._start(Packed(False, message))

    def run_packed(self, message: Packed) -> None:
        """Run a method with one message that may be compressed."""
        if message.compressed and len(message.data) > HEAVY_BYTES:
            self._start(message)
            return
        try:
            data = unpacked(message, self._stream.head.encoding, self._streams.shared.limit_bytes)
        except BadMessage as bad:
            self._fail(bad.code, bad.details)
            return
        self.run(data)

    def run_streaming(self) -> None:
        """Run a method that reads its messages as they come."""
        self._start(None)

    def feed(self) -> None:
        """Look at the inbox: messages came, or their end."""
        come, self._come = self._come, None
        _wake(come)

    def sent(self) -> None:
        """Go on: what was to be sent is on its way."""
        gone, self._gone = self._gone, None
        _wake(gone)

    def abandon(self) -> None:
        """Stop: nobody waits any more."""
        self._over = True
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.abandon()
        if self._task is not None:
            self._task.cancel()

    def _finish(self, outcome: bytes | BaseException) -> None:
        """Take the outcome of a shortcut."""
        self._begun = None
        if isinstance(outcome, bytes):
            self._streams.answer(self._stream, outcome)
            return
        shortcut = self._method.shortcut
        assert shortcut is not None
        end = shortcut.ending(outcome)
        self._streams.fail(self._stream, end.code, end.details, end.trailers)

    # -- as a task -------------------------------------------------------------------------------

    def _start(self, message: Packed | None) -> None:
        task = asyncio.get_running_loop().create_task(self._run(message))
        self._task = task
        tasks = self._streams.shared.tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _run(self, message: Packed | None) -> None:
        try:
            await self._behave(message)
        except asyncio.CancelledError:
            self._fail(StatusCode.CANCELLED, "the request was withdrawn by the server")
        except CallFailed as failed:
            end = failed.outcome
            self._fail(end.code, end.details, end.trailers)
        except BadMessage as bad:
            self._fail(bad.code, bad.details)
        except Exception:
            _log.exception("a gRPC call failed")
            text = "the server failed on this request; its log says more"
            self._fail(StatusCode.INTERNAL, text)

    def _fail(
        self, code: StatusCode, details: str, trailers: Sequence[tuple[str, Value]] = ()
    ) -> None:
        if not self._over:
            self._streams.fail(self._stream, code, details, trailers)

    async def _behave(self, message: Packed | None) -> None:
        if message is None:
            request: Any = self._messages()
        else:
            request = self._read(await self._unpacked(message))
        if self._method.response_streaming:
            async with contextlib.aclosing(self._method.behaviour(request, self)) as responses:
                async for response in responses:
                    await self._send(self._write(response))
            self._fail(StatusCode.OK, "")
        else:
            answer = self._write(await self._method.behaviour(request, self))
            if not self._over:
                self._streams.answer(self._stream, answer)

    async def _messages(self) -> AsyncIterator[Any]:
        stream = self._stream
        while True:
            inbox = stream.inbox
            if inbox is not None and inbox.ready:
                message = self._streams.take(stream)
                yield self._read(await self._unpacked(message))
            elif stream.heard_all:
                if inbox is not None and inbox.within:
                    raise BadMessage(StatusCode.INTERNAL, "the request ended within a message")
                return
            else:
                self._come = asyncio.get_running_loop().create_future()
                await self._come

    async def _send(self, message: bytes) -> None:
        if not self._over:
            self._streams.send(self._stream, message)
        while self._stream.outbox:
            self._gone = asyncio.get_running_loop().create_future()
            await self._gone

    async def _unpacked(self, message: Packed) -> bytes:
        arguments = message, self._stream.head.encoding, self._streams.shared.limit_bytes
        if not message.compressed or len(message.data) <= HEAVY_BYTES:
            return bytes(unpacked(*arguments))
        loop = asyncio.get_running_loop()
        threads = self._streams.shared.threads
        return bytes(await loop.run_in_executor(threads, unpacked, *arguments))

    def _read(self, data: bytes) -> Any:
        read = self._method.read
        if read is None:
            return data
        try:
            return read(data)
        except Exception:
            raise BadMessage(StatusCode.INTERNAL, "Exception deserializing request!") from None

    def _write(self, response: Any) -> bytes:
        write = self._method.write
        return bytes(response if write is None else write(response))


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
