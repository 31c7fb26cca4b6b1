"""One call of one instance that fits a frame: as nearly all calls are, with nothing to look up."""

from __future__ import annotations

from functools import partial

from serving.dataplane import Claim
from serving.frontends.grpc.calls import Inference, packs_many_strings
from serving.frontends.grpc.ending import Ending
from serving.frontends.grpc.methods import Finish
from serving.frontends.grpc.ms_codec import HEAVY_BYTES
from serving.frontends.grpc.ms_frame import Frame
from serving.frontends.grpc.ms_reply import Reply
from serving.frontends.mindspore.instances import Common
from serving.request import InferResponse


class MsLone(Ending):
    """Made for one call; ends as an ``MsExchange`` of the same message does.

    Constructing it raises Unavailable when the server goes down.
    """

    __slots__ = ("_claim", "_reply")

    def __init__(self, inference: Inference, reply: Reply, finish: Finish) -> None:
        super().__init__(inference, finish)
        self._reply = reply
        self._claim: Claim | None = None

    def start(self, data: bytes, frame: Frame, common: Common) -> None:
        """Run the instance; what is wrong with it is told in the reply."""
        plane = self._inference.plane
        try:
            claim = self._claim = plane.claim(frame.request(data, common))
            plane.commit(claim)
            claim.tell(self._heard)
        except Exception as error:
            if self._claim is not None:
                plane.abandon(self._claim)
            self._end(self._reply.refused(error, plane))

    def abandon(self) -> None:
        """Nobody waits any more: withdraw it, unless it is answered."""
        if self._given_up() and self._claim is not None:
            self._inference.plane.abandon(self._claim)

    def _heard(self, outcome: InferResponse | BaseException) -> None:
        reply = self._reply
        self._claim = None
        if not isinstance(outcome, InferResponse):
            self._end(reply.failed(outcome, self._inference.plane))
            return
        if self._finish is None:
            outcome.release()
            return
        written: bytes | BaseException | None
        try:
            written = reply.write_one(outcome)
        except Exception as failed:
            written = failed
        if written is None:
            heavy = packs_many_strings(outcome, HEAVY_BYTES)
            self._answer(partial(reply.write, [outcome]), outcome.release, heavy=heavy)
        else:
            outcome.release()
            self._end(written)
