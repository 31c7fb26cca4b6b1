"""``ModelStreamInfer``: requests of one call run side by side, and are answered in their order.

Each is what ``ModelInfer`` takes, and fails by itself, in a message of its own; the call goes on
until its client has sent all. Source: Triton's extension of the Open Inference Protocol.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from serving import protobuf
from serving.frontends.grpc.calls import draining
from serving.frontends.grpc.methods import CallFailed, Context, Method
from serving.frontends.grpc.status import outcome
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb

MOST = 64
"""Requests of a call that are begun before the answer to the first of them has gone."""

MOST_BYTES = 8 << 20
"""What their answers may come to, each taken for as large as the largest so far."""

_INFER_RESPONSE = 2
_FINAL = pb.ModelInferResponse(
    parameters={"triton_final_response": pb.InferParameter(bool_param=True)}
).SerializeToString()

Infer = Callable[[bytes, Context], Awaitable[bytes]]
"""Answers one request, serialised both; raises CallFailed."""


class StreamInfer:
    """Runs every request by ``infer``; lives on the event loop, owned by its service."""

    def __init__(self, infer: Infer) -> None:
        self._infer = infer
        self._readings: set[asyncio.Task[None]] = set()
        self._draining = False

    def method(self) -> Method:
        """Return what an engine offers."""
        return Method(self._answers, request_streaming=True, response_streaming=True)

    def drain(self) -> None:
        """Read no more requests; each call ends once those that it has sent are answered."""
        self._draining = True
        for reading in self._readings:
            reading.cancel()

    async def _answers(
        self, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        self._check()
        begun = _Begun()
        reading = asyncio.create_task(self._read(requests, context, begun))
        self._readings.add(reading)
        try:
            async for answer in begun.answers():
                yield answer
            await asyncio.wait((reading,))
            self._check()
            reading.result()  # raises what went wrong with reading, once all before is answered
        finally:
            self._readings.discard(reading)
            reading.cancel()
            begun.cancel()

    async def _read(self, requests: AsyncIterator[bytes], context: Context, begun: _Begun) -> None:
        try:
            async for request in requests:
                begun.add(asyncio.create_task(self._answer(request, context)))
                await begun.room()
        finally:
            begun.end()

    async def _answer(self, request: bytes, context: Context) -> bytes:
        """Return the message that answers a request, whatever became of it."""
        try:
            response = await self._infer(request, context)
        except CallFailed as failed:
            return _error(request, failed.outcome.details)
        size = len(response) + len(_FINAL)
        return b"".join((protobuf.prefix(_INFER_RESPONSE, size), response, _FINAL))

    def _check(self) -> None:
        if self._draining:
            raise CallFailed(outcome(draining()))


class _Begun:
    """The requests of one call that run or have run, and whose answers are still to go."""

    def __init__(self) -> None:
        self._tasks: deque[asyncio.Task[bytes]] = deque()
        self._largest = 1
        self._ended = False
        self._changed = asyncio.Event()

    def add(self, task: asyncio.Task[bytes]) -> None:
        """Put one behind the others."""
        self._tasks.append(task)
        self._changed.set()

    def end(self) -> None:
        """No more will come."""
        self._ended = True
        self._changed.set()

    def cancel(self) -> None:
        """Nobody waits for them any more."""
        for task in self._tasks:
            task.cancel()

    async def room(self) -> None:
        """Wait until another may be added."""
        while len(self._tasks) >= min(MOST, max(1, MOST_BYTES // self._largest)):
            await self._change()

    async def answers(self) -> AsyncIterator[bytes]:
        """Yield the answers in order, until the last; room is made once each has gone."""
        while True:
            if self._tasks:
                answer = await self._tasks[0]
                self._largest = max(self._largest, len(answer))
                yield answer
                self._tasks.popleft()
                self._changed.set()
            elif self._ended:
                return
            else:
                await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def _error(request: bytes, text: str) -> bytes:
    """Return the message for a request that failed, with its id where it can be read."""
    answer = pb.ModelStreamInferResponse(error_message=text)
    try:
        answer.infer_response.id = pb.ModelInferRequest.FromString(request).id
    except Exception:  # no message, so nobody can tell its id
        answer.infer_response.SetInParent()
    return bytes(answer.SerializeToString())
