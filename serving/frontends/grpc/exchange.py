"""One decoded request on the data plane, without a task: claim, answer, the message made of it.

Everything happens on the event loop; only answers with many strings are written on a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from serving.frontends.grpc.calls import Finish, Inference, packs_many_strings
from serving.request import InferRequest, InferResponse

Encode = Callable[[InferResponse], bytes]


class Exchange:
    """Made for one call; ``finish`` is called once with its outcome, never after ``abandon``.

    Constructing it claims and commits, and raises what the plane raises.
    """

    __slots__ = ("_claim", "_encode", "_finish", "_heavy_bytes", "_inference")

    def __init__(
        self,
        inference: Inference,
        request: InferRequest,
        encode: Encode,
        heavy_bytes: int,
        finish: Finish,
    ) -> None:
        self._inference = inference
        self._encode = encode
        self._heavy_bytes = heavy_bytes
        self._finish: Finish | None = finish
        plane = inference.plane
        inference.begin()
        try:
            claim = self._claim = plane.claim(request)
            try:
                plane.commit(claim)
            except BaseException:
                plane.abandon(claim)
                raise
        except BaseException:
            inference.end()
            raise
        claim.answer.add_done_callback(self._on_answer)

    def abandon(self) -> None:
        """Nobody waits any more: withdraw what is not answered; what is, is released."""
        if self._finish is None:
            return
        self._finish = None
        self._inference.end()
        if not self._claim.answer.done():
            self._inference.plane.abandon(self._claim)

    def _on_answer(self, answer: asyncio.Future[InferResponse]) -> None:
        if answer.cancelled():
            self._end(asyncio.CancelledError())
            return
        error = answer.exception()
        if error is not None:
            self._end(error)
            return
        response = answer.result()
        if self._finish is None:
            response.release()
            return
        if packs_many_strings(response, self._heavy_bytes):
            # An abandoned call does not stop the thread: the rows go back when it is through.
            encoded = self._inference.on_thread(self._encode, response)
            encoded.add_done_callback(lambda done: self._on_encoded(done, response))
            return
        outcome: bytes | BaseException
        try:
            outcome = self._encode(response)
        except Exception as failed:
            outcome = failed
        response.release()
        self._end(outcome)

    def _on_encoded(self, done: asyncio.Future[bytes], response: InferResponse) -> None:
        response.release()
        if done.cancelled():
            self._end(asyncio.CancelledError())
        else:
            self._end(done.exception() or done.result())

    def _end(self, outcome: bytes | BaseException) -> None:
        finish, self._finish = self._finish, None
        if finish is not None:
            self._inference.end()
            finish(outcome)
