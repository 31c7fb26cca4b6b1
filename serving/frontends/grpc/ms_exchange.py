"""One call of MindSpore Serving's clients without a task: its instances, the reply made of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from serving.errors import ServingError
from serving.frontends.grpc import ms_codec
from serving.frontends.grpc.calls import Finish, Inference
from serving.frontends.grpc.stubs import ms_service_pb2 as pb
from serving.frontends.mindspore.failures import told
from serving.frontends.mindspore.instances import Common
from serving.frontends.mindspore.runs import Outcome, Runs


class MsExchange:
    """Made for one call; ``finish`` is called once with the reply, never after ``abandon``.

    Constructing it raises Unavailable when the server goes down.
    """

    __slots__ = ("_finish", "_inference", "_runs", "_write")

    def __init__(self, inference: Inference, finish: Finish) -> None:
        self._inference = inference
        self._finish: Finish | None = finish
        self._runs: Runs | None = None
        self._write: Callable[[Sequence[Outcome]], bytes] | None = None
        inference.begin()

    def start(self, message: pb.PredictRequest, common: Common) -> None:
        """Run the instances of a message; what is wrong with them is told in the reply."""
        plane = self._inference.plane
        target = ms_codec.target(message)
        try:
            description = target.find(plane.describe)
            instances = ms_codec.decode(message, target, description, common)
            self._write = lambda outcomes: ms_codec.encode(message, target, description, outcomes)
            self._runs = Runs(plane, instances, "grpc", self._on_outcomes)
            self._runs.start()
        except ServingError as error:
            plane.answered_with(error, "grpc")
            self._end(ms_codec.refusal(message, told(error, target)))
        except BaseException as error:
            self._end(error)

    def abandon(self) -> None:
        """Nobody waits any more: withdraw what is not answered, release what is."""
        if self._finish is None:
            return
        self._finish = None
        self._inference.end()
        if self._runs is not None:
            self._runs.abandon()

    def _on_outcomes(self, outcomes: list[Outcome]) -> None:
        assert self._write is not None
        if has_many_strings(outcomes):
            # An abandoned call does not stop the thread: the rows go back when it is through.
            encoded = self._inference.on_thread(self._write, outcomes)
            encoded.add_done_callback(lambda done: self._on_encoded(done, outcomes))
            return
        outcome: bytes | BaseException
        try:
            outcome = self._write(outcomes)
        except Exception as failed:
            outcome = failed
        release(outcomes)
        self._end(outcome)

    def _on_encoded(self, done: asyncio.Future[bytes], outcomes: Sequence[Outcome]) -> None:
        release(outcomes)
        if done.cancelled():
            self._end(asyncio.CancelledError())
        else:
            self._end(done.exception() or done.result())

    def _end(self, outcome: bytes | BaseException) -> None:
        finish, self._finish = self._finish, None
        if finish is not None:
            self._inference.end()
            finish(outcome)


def release(outcomes: Sequence[Outcome]) -> None:
    """Give back the rows of all that were answered."""
    for outcome in outcomes:
        if not isinstance(outcome, ServingError):
            outcome.release()


def has_many_strings(outcomes: Sequence[Outcome]) -> bool:
    """Return whether outcomes hold more bytes of strings, which are written one by one."""
    tensors = [t for o in outcomes if not isinstance(o, ServingError) for t in o.outputs]
    return sum(t.nbytes for t in tensors if t.items is not None) > ms_codec.HEAVY_BYTES
