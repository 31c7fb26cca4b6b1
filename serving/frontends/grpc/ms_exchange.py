"""One call of MindSpore Serving's clients without a task: its instances, the reply made of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from serving.errors import ServingError
from serving.frontends.grpc import ms_codec
from serving.frontends.grpc.calls import Inference
from serving.frontends.grpc.ending import Ending
from serving.frontends.grpc.methods import Finish
from serving.frontends.grpc.ms_frame import Frame, Frames
from serving.frontends.grpc.ms_reply import Reply
from serving.frontends.grpc.stubs import ms_service_pb2 as pb
from serving.frontends.mindspore.failures import told
from serving.frontends.mindspore.instances import Common
from serving.frontends.mindspore.runs import Ends, Outcome, Runs
from serving.frontends.mindspore.target import Target
from serving.request import InferRequest


class MsExchange(Ending):
    """Made for one call; ``finish`` is called once with the reply, never after ``abandon``.

    Constructing it raises Unavailable when the server goes down.
    """

    __slots__ = ("_reply", "_runs")

    def __init__(self, inference: Inference, finish: Finish) -> None:
        super().__init__(inference, finish)
        self._runs: Runs | None = None
        self._reply: Reply | None = None

    def start(
        self, data: bytes, message: pb.PredictRequest, frames: Frames, common: Common
    ) -> None:
        """Run the instances of a message; what is wrong with them is told in the reply.

        ``data`` is the message as it came, to be remembered among ``frames``.
        """
        target, spec = ms_codec.target(message), ms_codec.spec(message)
        try:
            description = target.find(self._inference.plane.describe)
            instances = ms_codec.decode(message, target, description, common)
            reply = Reply(spec, target, description)
            frames.learn(data, reply, instances)
            self._run(reply, instances)
        except ServingError as error:
            self._refuse(target, spec, error)
        except BaseException as error:
            self._end(error)

    def start_framed(self, data: bytes, frame: Frame, common: Common) -> None:
        """Run the instances of a message that fits a frame; see ``start``."""
        reply = frame.reply
        try:
            self._run(reply, frame.requests(data, common))
        except ServingError as error:
            self._refuse(reply.target, reply.spec, error)
        except BaseException as error:
            self._end(error)

    def _run(self, reply: Reply, instances: Sequence[InferRequest | ServingError]) -> None:
        self._reply = reply
        self._runs = Runs(self._inference.plane, instances, "grpc", self._on_outcomes)
        self._runs.start()

    def _refuse(self, target: Target, spec: bytes, error: ServingError) -> None:
        self._inference.plane.answered_with(error, "grpc")
        self._end(ms_codec.refusal(spec, told(error, target)))

    def abandon(self) -> None:
        """Nobody waits any more: withdraw what is not answered, release what is."""
        if self._given_up() and self._runs is not None:
            self._runs.abandon()

    def _on_outcomes(self, outcomes: Ends) -> None:
        reply = self._reply
        assert reply is not None
        if isinstance(outcomes, ServingError):
            self._refuse(reply.target, reply.spec, outcomes)
            return
        written: bytes | BaseException | None
        try:
            written = reply.write_again(outcomes)
        except Exception as failed:
            written = failed
        if written is None:
            write, heavy = partial(reply.write, outcomes), has_many_strings(outcomes)
            self._answer(write, partial(release, outcomes), heavy=heavy)
        else:
            release(outcomes)
            self._end(written)


def release(outcomes: Sequence[Outcome]) -> None:
    """Give back the rows of all that were answered."""
    for outcome in outcomes:
        if not isinstance(outcome, ServingError):
            outcome.release()


def has_many_strings(outcomes: Sequence[Outcome]) -> bool:
    """Return whether outcomes hold more bytes of strings, which are written one by one."""
    tensors = [t for o in outcomes if not isinstance(o, ServingError) for t in o.outputs]
    return sum(t.nbytes for t in tensors if t.items is not None) > ms_codec.HEAVY_BYTES
