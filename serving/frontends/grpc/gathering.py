"""Small calls that arrive in one turn of the event loop and have one form go together.

To decode, claim, run, count and answer each by itself costs the server several times what a small
model does. What goes together is read in one go, stands in the line as one ticket, and is written
in one go; whatever does not fit, and whoever is alone, goes its ordinary way.
"""

from __future__ import annotations

import logging
from typing import Any

from serving.dataplane import DataPlane, RowsClaim, TakesRows
from serving.errors import ServingError
from serving.frontends.grpc.calls import Inference
from serving.frontends.grpc.ending import Ending
from serving.frontends.grpc.methods import Direct, DirectContext, Finish, Running
from serving.frontends.grpc.row_form import RowForm
from serving.frontends.loneliness import Loneliness
from serving.frontends.rows import rows_of
from serving.request import InferResponse

_MOST_FORMS = 2048
_REST_TURNS = 64
"""So often calls of a form that could not go together go by themselves at once."""

_log = logging.getLogger("serving.frontends.grpc")


class Gathered(Ending):
    """One call that waits for others, or goes with them; see ``methods.Running``."""

    __slots__ = ("_alone", "_context", "_message", "party", "place", "text")

    def __init__(
        self,
        inference: Inference,
        message: Any,
        text: Any,
        context: DirectContext,
        finish: Finish,
    ) -> None:
        super().__init__(inference, finish)
        self._context = context
        self._alone: Running | None = None
        self._message = message
        self.text = text
        self.party: Party | None = None
        self.place = 0

    @property
    def gone(self) -> bool:
        """Whether nobody waits any more."""
        return self._finish is None

    def go_alone(self, begin: Direct) -> None:
        """Go by itself after all."""
        finish, self._finish = self._finish, None
        if finish is None:
            return
        try:
            self._alone = begin(self._message, self._context, finish)
        except Exception as error:
            finish(error)
        finally:
            self._inference.end()

    def end(self, outcome: bytes | BaseException) -> None:
        """Tell what became of the call, unless that was done or nobody waits."""
        self.party = None  # which has this call: no circles for the garbage collector
        self._end(outcome)

    def abandon(self) -> None:
        """Nobody waits any more."""
        if self._alone is not None:
            self._alone.abandon()
        elif self._given_up():
            party, self.party = self.party, None
            if party is not None:
                party.leave(self.place)


class Gatherings:
    """The calls of all connections to one method that are being gathered. Event loop only.

    ``alone`` begins one by itself.
    """

    def __init__(self, inference: Inference, alone: Direct) -> None:
        self._alone = alone
        plane = inference.plane
        self._inference = inference
        self._rows = plane if isinstance(plane, TakesRows) else None
        self._company = Loneliness()
        self._gathered: dict[int, _Waiting] = {}

    def join(
        self,
        form: RowForm,
        text: Any,
        message: Any,
        context: DirectContext,
        finish: Finish,
    ) -> Gathered | None:
        """Let a call go with the others of this turn; None where it had better go by itself.

        ``text`` is what the form reads of the message. Raises Unavailable when the server goes
        down.
        """
        if self._rows is None or not self._company.has_company(self._inference.under_way):
            return None
        waiting = self._gathered.get(id(form))
        if waiting is None or waiting.form is not form:
            if len(self._gathered) >= _MOST_FORMS:
                self._gathered.clear()
            waiting = self._gathered[id(form)] = _Waiting(form)
        if waiting.rests:
            waiting.rests -= 1
            return None
        call = Gathered(self._inference, message, text, context, finish)
        if not waiting.calls:
            self._company.soon(self._go, waiting)
        waiting.calls.append(call)
        return call

    def _go(self, waiting: _Waiting) -> None:
        calls, waiting.calls = [call for call in waiting.calls if not call.gone], []
        if not calls:
            return
        self._company.came(len(calls))
        if len(calls) > 1 and self._together(waiting, calls):
            return
        for call in calls:
            call.go_alone(self._alone)

    def _together(self, waiting: _Waiting, calls: list[Gathered]) -> bool:
        """Claim calls together; False where each must go by itself."""
        assert self._rows is not None
        plane = self._inference.plane
        try:
            holds = waiting.form.holds(plane.describe)
            if holds and Party(plane, waiting.form, calls).begin(self._rows):
                return True
        except ServingError:
            pass  # each is told of it, in its own words
        waiting.rests = _REST_TURNS
        return False


class Party:
    """Made for the calls of one claim, the n-th of which is its n-th caller."""

    __slots__ = ("_calls", "_claim", "_form", "_plane", "_rows")

    def __init__(self, plane: DataPlane, form: RowForm, calls: list[Gathered]) -> None:
        self._plane = plane
        self._rows: TakesRows | None = None
        self._form = form
        self._calls = calls
        self._claim: RowsClaim | None = None

    def begin(self, rows: TakesRows) -> bool:
        """Claim the rows; False where the calls must go one by one. Raises a ``ServingError``."""
        calls = self._calls
        request = self._form.request([call.text for call in calls])
        self._claim = rows.take_rows(request, self._form.unit, self._heard)
        if self._claim is None:
            return False
        self._rows = rows
        for place, call in enumerate(calls):
            call.party = self
            call.place = place
        return True

    def leave(self, place: int) -> None:
        """Withdraw a call."""
        assert self._rows is not None
        assert self._claim is not None
        self._rows.abandon_row(self._claim, place)

    def _heard(self, first: int, count: int, outcome: InferResponse | BaseException) -> None:
        calls = self._calls[first : first + count]
        if isinstance(outcome, InferResponse):
            try:
                self._answer(calls, outcome)
            finally:
                outcome.release()
            return
        for call in calls:
            if not call.gone:
                call.end(self._form.failed(outcome, self._plane))

    def _answer(self, calls: list[Gathered], response: InferResponse) -> None:
        try:
            written = self._form.written(response, len(calls))
        except Exception:
            _log.exception("answers could not be written together")
            written = None
        if written is not None:
            for call, message in zip(calls, written, strict=True):
                call.end(message)
            return
        for place, call in enumerate(calls):
            if call.gone:
                continue
            try:
                call.end(self._form.one(rows_of(response, place, self._form.unit)))
            except Exception as error:
                call.end(error)


class _Waiting:
    """The calls of one form that have come in this turn."""

    __slots__ = ("calls", "form", "rests")

    def __init__(self, form: RowForm) -> None:
        self.form = form
        self.calls: list[Gathered] = []
        self.rests = 0
