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
    """Made for one call; ``finish`` is called once with its outcome, never after ``abandon``.

    ``_responses`` has the response to each claim, None until it is there.
    """

    __slots__ = ("_call", "_claims", "_finish", "_left", "_plane", "_pool", "_responses")

    def __init__(
        self, plane: DataPlane, pool: Executor, call: Call, finish: Callable[[Outcome], None]
    ) -> None:
        self._plane = plane
        self._pool = pool
        self._call = call
        self._claims: list[Claim] = []
        self._responses: list[InferResponse | None] = []
        self._left = 0
        self._finish: Callable[[Outcome], None] | None = finish

    def start(self) -> None:
        """Claim and commit all requests of the call.

        Raises what the plane raises; then nothing stays claimed, and ``finish`` is not called.
        """
        claims, plane = self._claims, self._plane
        requests = self._call.requests
        self._left = len(requests)
        self._responses = [None] * self._left
        try:
            for request in requests:
                try:
                    claims.append(plane.claim(request))
                except ServingError as error:
                    raise self._call.failed(len(claims), error) from None
            for claim in claims:
                plane.commit(claim)
        except BaseException:
            self.abandon()
            raise
        if self._left == 1:
            claims[0].tell(self._on_only)
            return
        for index, claim in enumerate(claims):
            claim.tell(partial(self._on_outcome, index))

    def write(self, response: InferResponse) -> None:
        """Answer with the response to the call's one request, which was claimed elsewhere."""
        responses = (response,)
        self._encode(responses, partial(self._call.encode, responses))

    def abandon(self) -> None:
        """Nobody waits any more: withdraw what is not answered, release what is."""
        self._finish = None
        claims, self._claims = self._claims, []
        for claim, response in zip(claims, self._responses, strict=False):
            if response is None:
                self._plane.abandon(claim)
            else:
                response.release()

    def _on_only(self, outcome: InferResponse | BaseException) -> None:
        if self._finish is None or not isinstance(outcome, InferResponse):
            self._on_outcome(0, outcome)
            return
        self._claims = []
        self.write(outcome)

    def _on_outcome(self, index: int, outcome: InferResponse | BaseException) -> None:
        if self._finish is None:
            if isinstance(outcome, InferResponse):
                outcome.release()
            return
        if not isinstance(outcome, InferResponse):
            del self._claims[index], self._responses[index]  # the others are given up
            if isinstance(outcome, ServingError):
                outcome = self._call.failed(index, outcome)
            self._end(known(outcome))
            return
        self._responses[index] = outcome
        self._left -= 1
        if self._left:
            return
        self._claims = []
        responses = [response for response in self._responses if response is not None]
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
        for response in responses:
            response.release()
        self._end(outcome)

    def _on_encoded(self, done: asyncio.Future[Reply], responses: Sequence[InferResponse]) -> None:
        """Take over from the thread; the rows were held until here, whoever still waits."""
        for response in responses:
            response.release()
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        self._end(done.result() if error is None else known(error))

    def _end(self, outcome: Outcome) -> None:
        finish = self._finish
        if self._claims:
            self.abandon()
        self._finish = None
        if finish is not None:
            finish(outcome)


def known(error: BaseException) -> Exception:
    """Return what is answered instead of what is no error of the call's own."""
    if isinstance(error, asyncio.CancelledError):
        return Unavailable("the request was withdrawn by the server", retry_after_s=1.0)
    # Any other BaseException is a KeyboardInterrupt in a thread: the server is going down.
    return error if isinstance(error, Exception) else Unavailable(str(error))


def _size(responses: Sequence[InferResponse]) -> int:
    return sum(
        [
            tensor.nbytes
            for response in responses
            for tensor in response.outputs
            if tensor.name not in response.stored
        ]
    )
