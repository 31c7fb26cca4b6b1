"""A request to a method: its instances walk side by side, and together they are the answer."""

from __future__ import annotations

import asyncio
import copy
import functools
import time
from collections.abc import Callable

from serving.channel.messages import Done
from serving.errors import Cancelled, DeadlineExceeded, Overloaded, ServingError
from serving.request import InferRequest, InferResponse, Listener
from serving.scheduling.pipeline.graph import Graph
from serving.scheduling.pipeline.instances import cut, join
from serving.scheduling.pipeline.passage import Doors, Passage
from serving.scheduling.pipeline.port import Terms
from serving.scheduling.statistics import LineStatistics
from serving.tensor import Tensor

_AT_ONCE = 256
"""Instances of one request that are under way together; the others follow as these end."""
NO_RUN = Done(0, 0, 0, 0)
"""What a method's request spent in runs: that is counted where they are."""


class MethodCall:
    """A claim on a method. Event loop only.

    ``inputs`` are those of the request in the method's order, with ``rows`` instances. Their memory
    must hold until ``answer`` is there. ``on_end`` is told once that it is over; ``version`` stands
    in the answer.
    """

    def __init__(
        self,
        request: InferRequest,
        inputs: tuple[Tensor, ...],
        rows: int,
        graph: Graph,
        doors: Doors,
        statistics: LineStatistics,
        on_end: Callable[[MethodCall], None],
        version: int,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[InferResponse] = loop.create_future()
        self._request = request
        self._inputs = inputs
        self._rows = rows
        self._graph = graph
        self._doors = doors
        self._statistics = statistics
        self._on_end = on_end
        self._version = version
        self._born = time.monotonic()
        self._terms = Terms(request.id, request.deadline, request.priority, self._born)
        self._passages: dict[int, Passage] = {}
        self._next = 0
        self._under_way = 0
        self._left = rows
        self._filling = False
        self._full = False
        self._over = False
        self._timer: asyncio.TimerHandle | None = None
        statistics.requests += 1

    def start(self) -> None:
        """Let it run."""
        deadline = self._request.deadline
        if deadline is not None and not self._over:
            left_s = max(0.0, deadline - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(left_s, self._expire)
        self._fill()

    def tell(self, listener: Listener) -> None:
        """Hand the outcome to a listener; see ``Claim``."""

        def told(done: asyncio.Future[InferResponse]) -> None:
            cancelled = done.cancelled()
            listener(asyncio.CancelledError() if cancelled else done.exception() or done.result())

        self.answer.add_done_callback(told)

    def abandon(self) -> None:
        """Withdraw: what is under way is withdrawn too, an answer is thrown away."""
        if not self._over:
            self.fail(Cancelled("the request was withdrawn"))
        answer = self.answer
        if answer.done() and not answer.cancelled() and answer.exception() is None:
            answer.result().release()

    def fail(self, error: ServingError) -> None:
        """End it with an error, unless it is over."""
        if self._over:
            return
        self._finish()
        for passage in self._passages.values():
            passage.abandon()
        self._passages.clear()
        self._statistics.fail(error, time.monotonic() - self._born)
        if not self.answer.done():
            self.answer.set_exception(error)
        if self.answer.done() and not self.answer.cancelled():
            self.answer.exception()  # one that nobody looks at would be logged
        self._on_end(self)

    # -- inside --------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Let instances go as long as there are some, and few enough are under way."""
        if self._filling:
            return  # an instance that ended at once; the loop below goes on
        self._filling, self._full = True, False
        while not (self._over or self._full or self._next == self._rows):
            if self._under_way >= _AT_ONCE:
                break
            index = self._next
            self._next += 1
            self._under_way += 1
            values = cut(self._inputs, index)
            ended = functools.partial(self._ended, index)
            passage = Passage(self._graph, values, self._terms, self._doors, ended)
            self._passages[index] = passage
            passage.start()
        self._filling = False

    def _ended(self, index: int, _passage: Passage, error: ServingError | None) -> None:
        if self._over:
            return
        self._under_way -= 1
        if isinstance(error, Overloaded) and self._filling and self._under_way:
            # It could not even begin: its turn is when another of this request is through.
            del self._passages[index]
            self._next = index
            self._full = True
            return
        if error is not None:
            self.fail(error if self._rows == 1 else _placed(error, index))
            return
        self._left -= 1
        if self._left:
            self._fill()
        else:
            self._succeed()

    def _succeed(self) -> None:
        method = self._graph.method
        try:
            values = [self._passages[index].values() for index in range(self._rows)]
            outputs = join(method.outputs, values)
        except ServingError as error:
            self.fail(error)
            return
        self._finish()
        wanted = self._request.outputs
        if wanted is not None:
            by_name = {tensor.name: tensor for tensor in outputs}
            outputs = tuple([by_name[name] for name in wanted])
        took_s = time.monotonic() - self._born
        self._statistics.answered(self._rows, took_s, 0.0, NO_RUN)
        response = self._respond(outputs)
        self._on_end(self)
        if self.answer.done():
            response.release()
        else:
            self.answer.set_result(response)

    def _respond(self, outputs: tuple[Tensor, ...]) -> InferResponse:
        request = self._request
        passages, self._passages = self._passages, {}
        release: Callable[[], None] | None = None
        if self._rows == 1:
            release = passages[0].release
        else:
            for passage in passages.values():  # their values were copied
                passage.release()
        return InferResponse(request.servable, self._version, request.id, outputs, release)

    def _expire(self) -> None:
        self.fail(
            DeadlineExceeded(
                f"the deadline passed before method {self._graph.method.name!r} was through",
                fix="allow more time, or send less at once",
            )
        )

    def _finish(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _placed(error: ServingError, index: int) -> ServingError:
    """Return an error that says which instance it is about."""
    placed = copy.copy(error)
    placed.message = f"instance {index}: {error.message}"
    placed.where = f"instances[{index}]"
    return placed
