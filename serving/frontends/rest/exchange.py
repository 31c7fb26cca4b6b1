"""One decoded call on the data plane: claims, answers, and the reply written from them.

The ordinary route and the lane both run calls through here. Everything happens on the event
loop; only large answers are encoded on a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial

from serving.dataplane import Claim, DataPlane
from serving.errors import ServingError, Unavailable
from serving.frontends.rest.wire import Call, Reply
from serving.request import InferResponse

LARGE_BYTES = 256 * 1024
"""Bodies and answers above this leave the event loop: about a millisecond of JSON."""

Outcome = Reply | Exception
"""What a call comes to: its reply, or what went wrong."""


class Exchange:
    """Made for one call; ``finish`` is called once with its outcome, never after ``abandon``."""

    __slots__ = ("_call", "_claims", "_finish", "_left", "_plane", "_pool")

    def __init__(
        self, plane: DataPlane, pool: Executor, call: Call, finish: Callable[[Outcome], None]
    ) -> None:
        self._plane = plane
        self._pool = pool
        self._call = call
        self._claims: list[Claim] = []
        self._left = 0
        self._finish: Callable[[Outcome], None] | None = finish

    def start(self) -> None:
        """Claim and commit all requests of the call.

        Raises what the plane raises; then nothing stays claimed, and ``finish`` is not called.
        """
        claims, plane = self._claims, self._plane
        try:
            for request in self._call.requests:
                try:
                    claims.append(plane.claim(request))
                except ServingError as error:
                    raise self._call.failed(len(claims), error) from None
            for claim in claims:
                plane.commit(claim)
        except BaseException:
            self.abandon()
            raise
        self._left = len(claims)
        for claim in claims:
            claim.answer.add_done_callback(self._on_answer)

    def abandon(self) -> None:
        """Nobody waits any more: withdraw what is not answered, release what is."""
        self._finish = None
        claims, self._claims = self._claims, []
        for claim in claims:
            answer = claim.answer
            if not answer.done():
                self._plane.abandon(claim)
            elif not answer.cancelled() and answer.exception() is None:
                answer.result().release()

    def _on_answer(self, answer: asyncio.Future[InferResponse]) -> None:
        if self._finish is None:
            return
        error = _failure(answer)
        if error is not None:
            if isinstance(error, ServingError):
                place = [claim.answer for claim in self._claims].index(answer)
                error = self._call.failed(place, error)
            self._end(error)
            return
        self._left -= 1
        if self._left:
            return
        claims, self._claims = self._claims, []
        responses = [claim.answer.result() for claim in claims]
        self._encode(responses, partial(self._call.encode, responses))

    def _encode(self, responses: Sequence[InferResponse], write: Callable[[], Reply]) -> None:
        """Write the answer, release the responses that it was written from, and end."""
        if not self._call.encodes_fast and _size(responses) > LARGE_BYTES:
            loop = asyncio.get_running_loop()
            encoded = loop.run_in_executor(self._pool, write)
            encoded.add_done_callback(lambda done: self._on_encoded(done, responses))
            return
        outcome: Outcome
        try:
            outcome = write()
        except Exception as error:
            outcome = error
        _release(responses)
        self._end(outcome)

    def _on_encoded(self, done: asyncio.Future[Reply], responses: Sequence[InferResponse]) -> None:
        """Take over from the thread; the rows were held until here, whoever still waits."""
        _release(responses)
        error = _failure(done)
        self._end(done.result() if error is None else error)

    def _end(self, outcome: Outcome) -> None:
        finish = self._finish
        if self._claims:
            self.abandon()
        self._finish = None
        if finish is not None:
            finish(outcome)


def _failure(done: asyncio.Future[InferResponse] | asyncio.Future[Reply]) -> Exception | None:
    if done.cancelled():
        return Unavailable("the request was withdrawn by the server", retry_after_s=1.0)
    error = done.exception()
    # A BaseException here would be a KeyboardInterrupt in a thread: the server is going down.
    return error if error is None or isinstance(error, Exception) else Unavailable(str(error))


def _size(responses: Sequence[InferResponse]) -> int:
    return sum([tensor.nbytes for response in responses for tensor in response.outputs])


def _release(responses: Sequence[InferResponse]) -> None:
    for response in responses:
        response.release()
