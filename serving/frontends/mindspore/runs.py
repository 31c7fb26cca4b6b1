"""Run the instances of one call, each a request of its own, so that each fails alone.

Requests that are claimed together run in one batch where the model allows it, and the scheduler
knows how to repeat a failed batch request by request. Event loop only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeGuard, cast

from serving.dataplane import Claim, DataPlane
from serving.errors import InternalError, InvalidRequest, ServingError, Unavailable
from serving.request import InferRequest, InferResponse

Outcome = InferResponse | ServingError
"""What an instance comes to; whoever gets a response releases it."""

Ends = list[Outcome] | ServingError
"""What a call comes to: an outcome for each instance in order, or what concerns it as a whole."""

_log = logging.getLogger("serving.frontends.mindspore")


class Runs:
    """Made for one call; ``finish`` is called once, with what it came to.

    Not after ``abandon``. Instances that failed before they came here keep their error; there is
    at least one instance. A call in which all fail is counted for ``front_end``.
    """

    __slots__ = ("_claims", "_finish", "_front_end", "_instances", "_left", "_outcomes", "_plane")

    def __init__(
        self,
        plane: DataPlane,
        instances: Sequence[InferRequest | ServingError],
        front_end: str,
        finish: Callable[[Ends], None],
    ) -> None:
        self._plane = plane
        self._instances = instances
        self._front_end = front_end
        self._finish: Callable[[Ends], None] | None = finish
        self._claims: dict[int, Claim] = {}  # those without an outcome, by place
        self._outcomes: list[Outcome | None] = []
        self._left = 0

    def start(self) -> None:
        """Claim and commit all.

        Raises what concerns the call as a whole, such as a full queue; then nothing stays
        claimed, and ``finish`` is not called.
        """
        plane = self._plane
        try:
            if len(self._instances) == 1:
                self._start_only(self._instances[0])
                return
            for index, instance in enumerate(self._instances):
                self._outcomes.append(self._claim(index, instance))
            for claim in self._claims.values():
                plane.commit(claim)
        except BaseException:
            self.abandon()
            raise
        claims = self._claims
        self._left = len(claims)
        for index, claim in claims.items():
            claim.tell(partial(self._on_outcome, index))
        if not claims:
            self._end(self._ends())

    def abandon(self) -> None:
        """Nobody waits any more: withdraw what is not answered, release what is."""
        self._finish = None
        claims, self._claims = self._claims, {}
        outcomes, self._outcomes = self._outcomes, []
        for claim in claims.values():
            self._plane.abandon(claim)
        for outcome in outcomes:
            if isinstance(outcome, InferResponse):
                outcome.release()

    def _start_only(self, instance: InferRequest | ServingError) -> None:
        """Claim and commit the only one, as nearly all calls have: without counting."""
        error = self._claim(0, instance)
        if error is not None:
            self._end([error])
            return
        claim = self._claims[0]
        self._plane.commit(claim)
        claim.tell(self._on_only)

    def _on_only(self, outcome: InferResponse | BaseException) -> None:
        if self._finish is not None:
            if _concerns_all(outcome):
                self._refuse(outcome)
                return
            self._claims.clear()
            self._end([_told(outcome)])
        elif isinstance(outcome, InferResponse):
            outcome.release()

    def _claim(self, index: int, instance: InferRequest | ServingError) -> ServingError | None:
        """Claim for an instance; return why it failed, if it has already."""
        if isinstance(instance, ServingError):
            return instance
        try:
            self._claims[index] = self._plane.claim(instance)
        except InvalidRequest as error:
            return error
        return None

    def _on_outcome(self, index: int, outcome: InferResponse | BaseException) -> None:
        if self._finish is None:
            if isinstance(outcome, InferResponse):
                outcome.release()
            return
        del self._claims[index]
        if _concerns_all(outcome):
            self._refuse(outcome)
            return
        self._outcomes[index] = _told(outcome)
        self._left -= 1
        if not self._left:
            self._end(self._ends())

    def _refuse(self, error: ServingError) -> None:
        """End the call as ``start`` would have ended it, had it been told there."""
        finish = self._finish
        assert finish is not None
        self.abandon()
        finish(error)

    def _ends(self) -> list[Outcome]:
        outcomes, self._outcomes = self._outcomes, []
        return [outcome for outcome in outcomes if outcome is not None]

    def _end(self, ends: list[Outcome]) -> None:
        finish, self._finish = self._finish, None
        assert finish is not None
        for end in ends:
            if not isinstance(end, ServingError):
                break
        else:
            self._plane.answered_with(cast(ServingError, ends[0]), self._front_end)
        finish(ends)


def ends_of(outcome: InferResponse | BaseException) -> Ends:
    """Return what a call of one instance comes to, by the outcome of that."""
    return outcome if _concerns_all(outcome) else [_told(outcome)]


def _concerns_all(outcome: InferResponse | BaseException) -> TypeGuard[ServingError]:
    """Return whether a request was not taken in, for no fault of its own."""
    return (
        isinstance(outcome, ServingError)
        and outcome.refused
        and not isinstance(outcome, InvalidRequest)
    )


def _told(outcome: InferResponse | BaseException) -> Outcome:
    if isinstance(outcome, (InferResponse, ServingError)):
        return outcome
    if isinstance(outcome, asyncio.CancelledError):
        return Unavailable("the request was withdrawn by the server", retry_after_s=1.0)
    _log.error("a request failed", exc_info=outcome)
    return InternalError("the server failed on this request; its log says more")
