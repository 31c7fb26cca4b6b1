"""The one call of ``mindspore.serving.proto.MSService``: bytes in, data plane, bytes out.

What is wrong with a request is told in the reply, not by gRPC's status: clients of MindSpore
Serving look for it there. The status is left for messages that cannot be read, for a server that
goes down, and for faults of the server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from serving.dataplane import DataPlane
from serving.errors import ServingError
from serving.frontends.grpc import ms_codec, status
from serving.frontends.grpc.calls import REQUEST_ID, Inference, request_id, unary
from serving.frontends.grpc.gathering import Gatherings
from serving.frontends.grpc.methods import Context, DirectContext, Finish, Methods, Running
from serving.frontends.grpc.ms_exchange import MsExchange, has_many_strings, release
from serving.frontends.grpc.ms_frame import Frame, Frames
from serving.frontends.grpc.ms_lone import MsLone
from serving.frontends.grpc.ms_memory import Memory
from serving.frontends.grpc.status import Outcome as CallOutcome
from serving.frontends.grpc.status_code import StatusCode
from serving.frontends.grpc.stubs import ms_service_pb2 as pb
from serving.frontends.mindspore.failures import told
from serving.frontends.mindspore.instances import Common
from serving.frontends.mindspore.runs import Ends, Outcome, Runs
from serving.frontends.mindspore.target import Target
from serving.frontends.shared_memory import gate
from serving.frontends.shared_memory.regions import Regions
from serving.request import Description, InferRequest

NAME = "mindspore.serving.proto.MSService"

_NOTHING_OF_ITS_OWN = Common("", None)


class MindSporeService:
    """Answers MindSpore Serving's clients from a data plane; owned by ``GrpcFrontEnd``."""

    def __init__(
        self, plane: DataPlane, inference: Inference, regions: Regions | None = None
    ) -> None:
        self._plane = plane
        self._inference = inference
        self._regions = regions
        self._frames = Frames()
        self._gatherings = Gatherings(inference, self._begin_alone)

    def methods(self) -> Methods:
        """Return what an engine offers, by path."""
        direct = {"Predict": self._begin_predict}
        return unary(NAME, {"Predict": self._predict}, _outcome, self._plane, direct)

    async def _predict(self, data: bytes, context: Context) -> bytes:
        self._inference.begin()
        try:
            return await self._reply(data, context)
        finally:
            self._inference.end()

    def _begin_predict(self, data: bytes, context: DirectContext, finish: Finish) -> Running | None:
        if len(data) > ms_codec.HEAVY_BYTES:
            return None
        frame = self._frames.find(data)
        common = _terms(context)
        if frame is not None and frame.rows is not None and common is _NOTHING_OF_ITS_OWN:
            gathered = self._gatherings.join(frame.rows, data, data, context, finish)
            if gathered is not None:
                return gathered
        return self._begin(data, finish, frame, common)

    def _begin_alone(self, data: bytes, context: DirectContext, finish: Finish) -> Running | None:
        return self._begin(data, finish, self._frames.find(data), _terms(context))

    def _begin(
        self, data: bytes, finish: Finish, frame: Frame | None, common: Common
    ) -> Running | None:
        if frame is not None and frame.holds(self._plane.describe):
            if len(frame.instances) == 1:
                lone = MsLone(self._inference, frame.reply, finish)
                lone.start(data, frame, common)
                return lone
            exchange = MsExchange(self._inference, finish)
            exchange.start_framed(data, frame, common)
            return exchange
        message = ms_codec.parse(data)
        if self._regions is not None and ms_codec.shares(message):
            return None
        exchange = MsExchange(self._inference, finish)
        exchange.start(data, message, self._frames, common)
        return exchange

    async def _reply(self, data: bytes, context: Context) -> bytes:
        heavy = len(data) > ms_codec.HEAVY_BYTES
        on_thread = self._inference.on_thread
        message = await on_thread(ms_codec.parse, data) if heavy else ms_codec.parse(data)
        target = ms_codec.target(message)
        try:
            memory = self._memory(message, context)
            description = target.find(self._plane.describe)
            arguments = message, target, description, _common(context), memory
            if heavy or memory is not None:
                instances = await on_thread(ms_codec.decode, *arguments)
            else:
                instances = ms_codec.decode(*arguments)
            outcomes = await self._run(instances)
        except ServingError as error:
            self._plane.answered_with(error, "grpc")
            return ms_codec.refusal(ms_codec.spec(message), told(error, target))
        return await self._encode(message, target, description, outcomes, memory)

    def _memory(self, message: pb.PredictRequest, context: Context) -> Memory | None:
        """Return a message's way to shared memory, None where it needs none or all are refused."""
        if self._regions is None or not ms_codec.shares(message):
            return None
        is_local = gate.local_grpc(context.peer(), context.invocation_metadata())
        return Memory(gate.opened(self._regions, is_local, "shm_data"))

    async def _run(self, instances: Sequence[InferRequest | ServingError]) -> list[Outcome]:
        """Run the instances; the caller releases the responses among the outcomes."""
        done: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        runs = Runs(self._plane, instances, "grpc", lambda outcomes: _settle(done, outcomes))
        runs.start()
        try:
            return await done
        except asyncio.CancelledError:
            runs.abandon()
            if done.done() and not done.cancelled():
                release(done.result())
            raise

    async def _encode(
        self,
        message: pb.PredictRequest,
        target: Target,
        description: Description,
        outcomes: Sequence[Outcome],
        memory: Memory | None,
    ) -> bytes:
        arguments = message, target, description, outcomes, memory
        if memory is None and not has_many_strings(outcomes):
            try:
                return ms_codec.encode(*arguments)
            finally:
                release(outcomes)
        encoding = self._inference.on_thread(ms_codec.encode, *arguments)
        # A cancelled call does not stop the thread: the rows go back when it is through.
        encoding.add_done_callback(lambda _: release(outcomes))
        return await asyncio.shield(encoding)


def _terms(context: DirectContext) -> Common:
    """Return what ``_common`` does, without reckoning."""
    id, deadline = context.terms(REQUEST_ID)
    return Common(id, deadline) if id or deadline is not None else _NOTHING_OF_ITS_OWN


def _common(context: Context) -> Common:
    remaining = context.time_remaining()
    deadline = None if remaining is None else time.monotonic() + remaining
    return Common(request_id(context), deadline)


def _settle(done: asyncio.Future[list[Outcome]], outcomes: Ends) -> None:
    if isinstance(outcomes, ServingError):
        if not done.done():
            done.set_exception(outcomes)
    elif done.done():  # the call was cancelled a moment ago
        release(outcomes)
    else:
        done.set_result(outcomes)


def _outcome(error: ServingError) -> CallOutcome:
    """Return how a call ends; bytes that are no message are INTERNAL here, as clients know it."""
    end = status.outcome(error)
    if isinstance(error, ms_codec.Unreadable):
        return CallOutcome(StatusCode.INTERNAL, error.message, end.trailers)
    return end
