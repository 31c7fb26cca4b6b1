"""``Model.call``: runs a model for a function whose worker waits for the answer meanwhile."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Sequence

from serving.channel.arena import Arena
from serving.channel.messages import Call
from serving.channel.packet import Values, read, size_of, write
from serving.errors import Cancelled, InternalError, ServingError, Unavailable
from serving.scheduling.stages.calls import CallTerms, ModelAnswer, ModelCalls
from serving.scheduling.stages.flight import StageFlight
from serving.tensor import Tensor

_log = logging.getLogger("serving.stages")


class Calling:
    """Carries out the calls of models. Event loop only."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.calls: ModelCalls | None = None

    def begin(self, flight: StageFlight, call: Call) -> None:
        """Start a call; its answer is sent to the worker. ValueError for what is no call."""
        segment = flight.output
        if flight.call is not None or segment is None or segment.id != call.segment:
            raise ValueError("a call that the run cannot make")
        instances = []
        for instance in read(segment.bytes):
            if isinstance(instance, str):
                raise ValueError("a call with an error for an instance")
            instances.append(instance)
        task = asyncio.get_running_loop().create_task(self._carry_out(flight, call, instances))
        flight.call = task
        task.add_done_callback(functools.partial(self._ended, flight))

    async def _carry_out(self, flight: StageFlight, call: Call, instances: list[Values]) -> None:
        try:
            terms = _terms(flight)
            async with asyncio.timeout_at(_loop_time(terms.deadline)):
                answer = await self._calls.call(
                    flight.rooms.generation, call.model, call.subgraph, instances, terms
                )
            try:
                self._hand_back(flight, answer)
            finally:
                answer.release()
        except ServingError as error:
            self._fail(flight, error)
        except TimeoutError:
            self._fail(flight, Cancelled("the request's deadline passed during a call of a model"))
        except Exception:
            _log.exception("a call of a model broke")
            self._fail(flight, InternalError("the server failed on this call; its log says more"))

    def _ended(self, flight: StageFlight, task: asyncio.Task[None]) -> None:
        """Tell the worker of a call that was cancelled, perhaps before it had begun."""
        if task.cancelled():
            self._fail(flight, Cancelled("nobody waits for this run"))

    def _hand_back(self, flight: StageFlight, answer: ModelAnswer) -> None:
        """Write the results for the worker, over what it asked, or into a larger segment."""
        results = _values(answer.results)
        size = size_of(results)
        segment = flight.output
        assert segment is not None
        if segment.size < size:
            larger = self._arena.take(size, writable_elsewhere=True)
            self._arena.give(segment)
            flight.output = segment = larger
        write(segment.bytes, results)
        flight.call = None  # the worker may ask again as soon as it hears
        if not flight.lost:
            flight.slot.call_done(flight.id, segment)

    def _fail(self, flight: StageFlight, error: ServingError) -> None:
        flight.call = None
        if not flight.lost:
            flight.slot.call_failed(flight.id, error.code, str(error))

    @property
    def _calls(self) -> ModelCalls:
        if self.calls is None:
            raise Unavailable("this server runs no models for functions", code="unavailable")
        return self.calls


def _values(results: Sequence[tuple[Tensor, ...] | ServingError]) -> list[Values]:
    values = []
    for result in results:
        if isinstance(result, ServingError):
            raise result
        values.append(result)
    return values


def _terms(flight: StageFlight) -> CallTerms:
    """Return what those who wait for a run want, taken together; raises Cancelled for nobody."""
    claims = [ticket.claim for ticket in flight.wanted]
    if not claims:
        raise Cancelled("nobody waits for this run")
    deadlines = [claim.deadline for claim in claims]
    return CallTerms(
        None if None in deadlines else max(d for d in deadlines if d is not None),
        min(claim.priority for claim in claims),
        " ".join(claim.id for claim in claims if claim.id),
    )


def _loop_time(deadline: float | None) -> float | None:
    """Return a monotonic time as the event loop's clock has it."""
    if deadline is None:
        return None
    return asyncio.get_running_loop().time() + deadline - time.monotonic()
