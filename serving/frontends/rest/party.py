"""Calls that were claimed together: each seat hears what became of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from serving.dataplane import RowsClaim, TakesRows
from serving.frontends.rest.row_form import RowForm
from serving.frontends.rest.seat import Seat
from serving.frontends.rest.wire import Reply
from serving.frontends.rows import rows_of
from serving.request import InferResponse

_log = logging.getLogger("serving.rest")

Start = Callable[[Reply], bytes]
"""Writes the head of a reply, up to the number that is the length of its body."""

Refuse = Callable[[Exception, Seat], Reply]
"""Turns what went wrong with a call into its reply, and counts it."""


class Party:
    """Made for the seats of one claim, the n-th of which is its n-th caller."""

    __slots__ = ("_claim", "_form", "_plane", "_refuse", "_seats", "_start")

    def __init__(
        self, plane: TakesRows, form: RowForm, seats: Sequence[Seat], start: Start, refuse: Refuse
    ) -> None:
        self._plane = plane
        self._form = form
        self._seats = seats
        self._start = start
        self._refuse = refuse
        self._claim: RowsClaim | None = None

    def begin(self, texts: Sequence[bytes]) -> bool:
        """Claim the rows; False where the calls must go one by one. Raises a ``ServingError``."""
        request = self._form.request(texts)
        if request is None:
            return False
        self._claim = self._plane.take_rows(request, self._form.unit, self._heard)
        if self._claim is None:
            return False
        for seat in self._seats:
            seat.party = self
        return True

    def leave(self, seat: Seat) -> None:
        """Withdraw the call of a seat."""
        assert self._claim is not None
        self._plane.abandon_row(self._claim, self._seats.index(seat))

    def _heard(self, first: int, count: int, outcome: InferResponse | BaseException) -> None:
        seats = self._seats[first : first + count]
        if not isinstance(outcome, InferResponse):
            error = outcome if isinstance(outcome, Exception) else RuntimeError(str(outcome))
            for seat in seats:
                self._answer(seat, error)
            return
        try:
            self._write(seats, outcome)
        except Exception as error:
            for seat in seats:
                self._answer(seat, error)
        finally:
            outcome.release()

    def _write(self, seats: Sequence[Seat], response: InferResponse) -> None:
        written = self._form.written(response)
        if written is None:
            for place, seat in enumerate(seats):
                try:
                    self._answer(seat, self._one(rows_of(response, place, self._form.unit)))
                except Exception as error:
                    self._answer(seat, error)
            return
        start, now = self._start(written.like), time.monotonic()
        for seat, text in zip(seats, written.texts, strict=True):
            if not seat.gone:
                seat.caller.answer(seat, start, written, text, now)

    def _one(self, response: InferResponse) -> Reply:
        """Return the answer to one call; raises a ``ServingError``."""
        return self._form.one(response) or self._form.call().encode([response])

    def _answer(self, seat: Seat, outcome: Reply | Exception) -> None:
        """Answer, unless that was done or nobody is there."""
        if seat.gone or seat.response_complete or seat.party is not self:
            return
        reply = self._refuse(outcome, seat) if isinstance(outcome, Exception) else outcome
        seat.caller.reply(seat, reply)
