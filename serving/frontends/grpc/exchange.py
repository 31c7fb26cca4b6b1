"""One decoded request on the data plane, without a task: claim, answer, the message made of it.

Everything happens on the event loop; only answers with many strings are written on a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from serving.frontends.grpc.calls import Finish, Inference, packs_many_strings
from serving.frontends.grpc.ending import Ending
from serving.request import InferRequest, InferResponse

Encode = Callable[[InferResponse], bytes]


class Exchange(Ending):
    """Made for one call; ``finish`` is called once with its outcome, never after ``abandon``.

    Constructing it claims and commits, and raises what the plane raises.
    """

    __slots__ = ("_claim", "_encode", "_heavy_bytes")

    def __init__(
        self,
        inference: Inference,
        request: InferRequest,
        encode: Encode,
        heavy_bytes: int,
        finish: Finish,
    ) -> None:
        super().__init__(inference, finish)
        self._encode = encode
        self._heavy_bytes = heavy_bytes
        plane = inference.plane
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
        if self._given_up() and not self._claim.answer.done():
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
        heavy = packs_many_strings(response, self._heavy_bytes)
        self._answer(partial(self._encode, response), response.release, heavy=heavy)
