"""Small requests that came together: one ticket, until something sets one apart.

A front end that is as fast as it can be brings small requests by the dozen, alike but for their
numbers. To claim, run, count and answer each by itself costs several times what the rest of its
way does. So those of as many rows each stand in the line as one ticket, counted as so many. As
soon as anything concerns one of them alone (its caller goes away, its run fails, a worker is
lost), the sheaf is untied: each becomes an ordinary ticket, where the sheaf stood.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from serving.errors import ServingError
from serving.request import InferRequest, InferResponse, RowsListener
from serving.scheduling.ticket import Ticket
from serving.tensor import Tensor

if TYPE_CHECKING:
    from serving.scheduling.line import Line

_log = logging.getLogger("serving.scheduler")


class SheafClaim:
    """So many callers who came together: what has become of them, and who hears of it.

    ``sheaves`` are those that are still tied, in no order; ``singles`` the tickets of those that
    were set apart. Nothing of it holds on to anything once all have heard: what refers to itself
    in a circle would be left to the garbage collector, whose turns every caller would notice.
    """

    __slots__ = ("_listener", "_unheard", "sheaves", "singles")

    def __init__(self, listener: RowsListener, callers: int) -> None:
        self._listener: RowsListener | None = listener
        self._unheard = callers
        self.sheaves: list[Sheaf] = []
        self.singles: dict[int, Ticket] = {}

    def heard(self, start: int, count: int, outcome: InferResponse | BaseException) -> None:
        """Tell what the callers from ``start`` on, so many, came to."""
        listener = self._listener
        assert listener is not None
        self._unheard -= count
        if not self._unheard:
            self._listener = None
        listener(start, count, outcome)

    def sheaf_with(self, caller: int) -> Sheaf | None:
        """Return the sheaf that a caller is tied into, if it still is."""
        for sheaf in self.sheaves:
            if sheaf.start <= caller < sheaf.start + sheaf.callers:
                return sheaf
        return None


class Sheaf(Ticket):
    """A ticket whose rows are those of several callers, from number ``start`` of their claim on.

    Each has ``unit`` rows, on axis 0 of every input. The request has neither deadline nor id.
    """

    __slots__ = ("claim", "start", "unit")

    def __init__(
        self,
        claim: SheafClaim,
        start: int,
        request: InferRequest,
        unit: int,
        line: Line,
        born: float,
    ) -> None:
        admission, shape = line.check(request)
        super().__init__(request, admission, shape, line, born)
        self.unit = unit
        self.callers = self.rows // unit
        self.committed = True
        self.claim = claim
        self.start = start
        claim.sheaves.append(self)

    def split(self, callers: int) -> Sheaf:
        """Keep so many callers; return a sheaf of those behind, which stands where they stood.

        Of a sheaf that waits.
        """
        whole, rows = self.request, callers * self.unit
        behind = _cut(whole, rows, self.rows)
        rest = Sheaf(self.claim, self.start + callers, behind, self.unit, self.line, self.born)
        rest.waiting = self.waiting
        if self.batch is not None:
            rest.batch, rest.first = self.batch, self.first + rows
            self.batch.buffer.hold()
        self.request = _cut(whole, 0, rows)
        self.admission, _ = self.line.check(self.request)
        self.inputs = self.admission.ordered(self.request)
        self.nbytes -= rest.nbytes
        self.rows = self.unfinished = rows
        self.callers = callers
        return rest

    def untie(self) -> Sequence[Ticket]:
        """Become a ticket for each caller: they stand, or run, where the sheaf did."""
        singles = [self._single(caller) for caller in range(self.callers)]
        if self.batch is not None:
            for _ in singles[1:]:
                self.batch.buffer.hold()
        self.closed = True
        self.waiting = False
        self.claim.sheaves.remove(self)
        return singles

    def succeed(self, response: InferResponse) -> None:
        """Answer all callers."""
        self._close()
        self.claim.sheaves.remove(self)
        try:
            self.claim.heard(self.start, self.callers, response)
        except Exception:  # the others of the run are to have their answers
            _log.exception("answers could not be handed on")
            response.release()

    def fail(self, error: ServingError) -> None:
        """Answer all callers with an error, at the loop's next turn."""
        self._close()
        self.claim.sheaves.remove(self)
        self._soon(partial(self.claim.heard, self.start, self.callers), error)

    def _single(self, caller: int) -> Ticket:
        first = caller * self.unit
        request = _cut(self.request, first, first + self.unit)
        admission, _ = self.line.check(request)
        ticket = Ticket(request, admission, self.shape, self.line, self.born)
        ticket.tell(partial(self.claim.heard, self.start + caller, 1))
        ticket.committed = True
        ticket.waiting = self.waiting
        ticket.sent = self.sent
        ticket.batch = self.batch
        ticket.first = self.first + first
        ticket.dispatched = self.unit if self.dispatched else 0
        self.claim.singles[self.start + caller] = ticket
        return ticket


def _cut(request: InferRequest, start: int, end: int) -> InferRequest:
    """Return the request of some of the rows."""
    return request._replace(inputs=tuple([_rows(whole, start, end) for whole in request.inputs]))


def _rows(whole: Tensor, start: int, end: int) -> Tensor:
    assert whole.array is not None
    shape = (end - start, *whole.shape[1:])
    return Tensor(whole.name, whole.dtype, shape, whole.array[start:end])
