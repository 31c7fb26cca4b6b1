"""A request's place in its connection while it has a known form: by itself, or with others.

Nothing is made for the request but what the data plane needs: what stands around its numbers was
understood when its form was, and the seat serves one request of its connection after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from serving.dataplane import Claim
from serving.frontends.rest.exchange import Exchange, known
from serving.frontends.rest.row_form import Written
from serving.frontends.rest.wire import Reply
from serving.request import InferResponse

if TYPE_CHECKING:
    from serving.frontends.rest.lane import Head, Lane
    from serving.frontends.rest.party import Party
    from serving.frontends.rest.stencil import Stencil


class Caller(Protocol):
    """What a connection does for the request in its seat."""

    def go_alone(self, seat: Seat) -> None:
        """Let the request go the lane's ordinary way."""
        ...

    def answer(self, seat: Seat, start: bytes, written: Written, text: bytes, now: float) -> None:
        """Write one of the answers; ``start`` is the head of each, but for its length."""
        ...

    def answer_one(self, seat: Seat, reply: Reply) -> None:
        """Write the answer to a request that is by itself."""
        ...

    def reply(self, seat: Seat, reply: Reply) -> None:
        """Write a reply."""
        ...


class Seat:
    """Stands in a connection where uvicorn has its request's cycle; used for one after the other.

    ``data`` is the whole request. ``claim`` is what it has taken by itself, ``party`` are those it
    goes with, once they have gone. It is ``gone`` when the client is.
    """

    __slots__ = (
        "caller", "claim", "data", "gone", "keep_alive", "lane", "more_body", "party",
        "response_complete", "stencil",
    )  # fmt: skip

    def __init__(self, caller: Caller, lane: Lane | None) -> None:
        self.caller = caller
        self.lane = lane
        self.data = b""
        self.stencil: Stencil | None = None
        self.party: Party | None = None
        self.claim: Claim | None = None
        self.keep_alive = True
        self.more_body = False
        self.response_complete = True
        self.gone = False

    @property
    def head(self) -> Head:
        """The head of the request."""
        assert self.stencil is not None
        return self.stencil.head

    def take(self, stencil: Stencil, data: bytes) -> None:
        """Begin with the next request."""
        self.stencil = stencil
        self.data = data
        self.party = None
        self.keep_alive = True
        self.response_complete = False

    def run(self) -> None:
        """Claim the request by itself; what does not fit its form after all goes the other way."""
        stencil, lane = self.stencil, self.lane
        assert stencil is not None
        assert lane is not None
        form, plane = stencil.form, lane.plane
        try:
            if not form.holds(plane.describe):
                lane.gatherings.forget(form)
                request = None
            else:
                request = form.request((self.data[stencil.text_at : stencil.text_end],))
            if request is None:
                self.caller.go_alone(self)
                return
            claim = plane.claim(request)
            plane.commit(claim)
        except Exception as error:
            self.caller.reply(self, lane.refused(error, self))
            return
        self.claim = claim
        lane.gatherings.alone += 1
        claim.tell(self._heard)

    def abandon(self) -> None:
        """The client has gone: withdraw what runs, answer nothing."""
        self.gone = True
        party, claim = self.party, self.claim
        if claim is not None:
            self._answered()
            assert self.lane is not None
            self.lane.plane.abandon(claim)
        elif party is not None and not self.response_complete:
            party.leave(self)
        self.response_complete = True

    def _heard(self, outcome: InferResponse | BaseException) -> None:
        """Answer with what the request came to."""
        stencil = self.stencil
        if self.claim is None or stencil is None:  # abandoned: it was on its way
            if isinstance(outcome, InferResponse):
                outcome.release()
            return
        self._answered()
        if not isinstance(outcome, InferResponse):
            self._finish(known(outcome))
            return
        try:
            reply = stencil.form.one(outcome)
        except Exception as error:
            outcome.release()
            self._finish(error)
            return
        if reply is None:
            self._write_at_length(outcome)
            return
        outcome.release()
        self.caller.answer_one(self, reply)

    def _answered(self) -> None:
        self.claim = None
        assert self.lane is not None
        self.lane.gatherings.alone -= 1

    def _write_at_length(self, response: InferResponse) -> None:
        lane, stencil = self.lane, self.stencil
        assert lane is not None
        assert stencil is not None
        Exchange(lane.plane, lane.pool, stencil.form.call(), self._finish).write(response)

    def _finish(self, outcome: Reply | Exception) -> None:
        if self.gone or self.lane is None:
            return
        if isinstance(outcome, Exception):
            outcome = self.lane.refused(outcome, self)
        self.caller.reply(self, outcome)
