"""Run the instances of one call, each a request of its own, so that each fails alone.

Requests that are claimed together run in one batch where the model allows it, and the scheduler
knows how to repeat a failed batch request by request. Event loop only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from serving.dataplane import Claim, DataPlane
from serving.errors import InternalError, InvalidRequest, ServingError, Unavailable
from serving.request import InferRequest, InferResponse

Outcome = InferResponse | ServingError
"""What an instance comes to; whoever gets a response releases it."""

_log = logging.getLogger("serving.frontends.mindspore")


class Runs:
    """Made for one call; ``finish`` is called once, with an outcome for each instance in order.

    Not after ``abandon``. Instances that failed before they came here keep their error; there is
    at least one instance. A call in which all fail is counted for ``front_end``.
    """

    __slots__ = ("_claims", "_finish", "_front_end", "_instances", "_left", "_plane")

    def __init__(
        self,
        plane: DataPlane,
        instances: Sequence[InferRequest | ServingError],
        front_end: str,
        finish: Callable[[list[Outcome]], None],
    ) -> None:
        self._plane = plane
        self._instances = instances
        self._front_end = front_end
        self._finish: Callable[[list[Outcome]], None] | None = finish
        self._claims: list[Claim | ServingError] = []
        self._left = 0

    def start(self) -> None:
        """Claim and commit all.

        Raises what concerns the call as a whole, such as a full queue; then nothing stays
        claimed, and ``finish`` is not called.
        """
        try:
            for instance in self._instances:
                self._claims.append(self._claim(instance))
            claims = [claim for claim in self._claims if not isinstance(claim, ServingError)]
            for claim in claims:
                self._plane.commit(claim)
        except BaseException:
            self.abandon()
            raise
        self._left = len(claims)
        for claim in claims:
            claim.answer.add_done_callback(self._on_answer)
        if not claims:
            self._end()

    def abandon(self) -> None:
        """Nobody waits any more: withdraw what is not answered, release what is."""
        self._finish = None
        claims, self._claims = self._claims, []
        for claim in claims:
            if isinstance(claim, ServingError):
                continue
            answer = claim.answer
            if not answer.done():
                self._plane.abandon(claim)
            elif not answer.cancelled() and answer.exception() is None:
                answer.result().release()

    def _claim(self, instance: InferRequest | ServingError) -> Claim | ServingError:
        if isinstance(instance, ServingError):
            return instance
        try:
            return self._plane.claim(instance)
        except InvalidRequest as error:
            return error

    def _on_answer(self, _answer: asyncio.Future[InferResponse]) -> None:
        self._left -= 1
        if not self._left and self._finish is not None:
            self._end()

    def _end(self) -> None:
        finish, self._finish = self._finish, None
        claims, self._claims = self._claims, []
        if finish is None:
            return
        outcomes = [_outcome(claim) for claim in claims]
        errors = [outcome for outcome in outcomes if isinstance(outcome, ServingError)]
        if len(errors) == len(outcomes):
            self._plane.answered_with(errors[0], self._front_end)
        finish(outcomes)


def _outcome(claim: Claim | ServingError) -> Outcome:
    if isinstance(claim, ServingError):
        return claim
    answer = claim.answer
    if answer.cancelled():
        return Unavailable("the request was withdrawn by the server", retry_after_s=1.0)
    error = answer.exception()
    if error is None:
        return answer.result()
    if isinstance(error, ServingError):
        return error
    _log.error("a request failed", exc_info=error)
    return InternalError("the server failed on this request; its log says more")
