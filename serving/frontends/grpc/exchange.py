"""One decoded request on the data plane, without a task: claim, answer, the message made of it.

Everything happens on the event loop; only answers with many strings are written on a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from serving.dataplane import Claim
from serving.frontends.grpc.calls import Inference, packs_many_strings
from serving.frontends.grpc.ending import Ending
from serving.frontends.grpc.methods import Finish
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
            claim = plane.claim(request)
            try:
                plane.commit(claim)
            except BaseException:
                plane.abandon(claim)
                raise
        except BaseException:
            inference.end()
            raise
        self._claim: Claim | None = claim
        claim.tell(self._on_outcome)

    def abandon(self) -> None:
        """Nobody waits any more: withdraw what is not answered; what is, is released."""
        if self._given_up() and self._claim is not None:
            self._inference.plane.abandon(self._claim)

    def _on_outcome(self, outcome: InferResponse | BaseException) -> None:
        self._claim = None
        if not isinstance(outcome, InferResponse):
            self._end(outcome)
        elif self._finish is None:
            outcome.release()
        else:
            heavy = self._is_heavy(outcome)
            self._answer(partial(self._encode, outcome), outcome.release, heavy=heavy)

    def _is_heavy(self, response: InferResponse) -> bool:
        """Return whether writing an answer goes through many elements one by one."""
        return packs_many_strings(response, self._heavy_bytes)
