"""How runs and requests end: answers handed out, failures run once more alone, tickets closed."""

from __future__ import annotations

import logging
import time

from serving.channel.arena import Arena
from serving.channel.messages import Done, Failed
from serving.errors import InternalError, ServingError, from_wire
from serving.scheduling.flight import Flight
from serving.scheduling.piece import Piece
from serving.scheduling.results import Part, Results, let_go, respond
from serving.scheduling.suspicion import (
    Apart,
    Cause,
    Loss,
    Step,
    blame,
    lost,
    next_step,
    run_timeout,
)
from serving.scheduling.ticket import Ticket

_log = logging.getLogger("serving.scheduler")


class Endings:
    """Settles what a worker answered. Called by the scheduler, on the event loop.

    ``apart`` tries suspects in workers that serve nobody; without one they run on serving workers.
    """

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.apart: Apart | None = None

    def finished(self, flight: Flight, done: Done) -> None:
        """A run went well: its requests are answered, or go on with their next rows."""
        now = time.monotonic()
        flight.line.statistics.ran(flight.rows, done, now)
        flight.shape.cost.ran(flight.rows, done.infer_ns / 1e9)
        if flight.line.speeds is not None:
            flight.line.speeds.ran(flight.slot.device.kind, flight.rows, done.infer_ns / 1e9)
        if done.outputs is None:
            for piece in flight.pieces:
                self._advance(piece, done, now)
            return
        flight.untie()
        try:
            results = self._results(flight, done)
        except ServingError as error:
            for ticket in flight.wanted:
                self.fail(ticket, error)
            return
        self._hand_out(flight, results, done, now)
        results.release()

    def failed(self, flight: Flight, failed: Failed) -> None:
        """A run failed: one request alone has its error, of several each runs again by itself."""
        if flight.scratch is not None:
            self._arena.give(flight.scratch)
        flight.line.statistics.failed_runs += 1
        flight.untie()
        error = from_wire(failed.code, failed.message)
        if flight.overdue:
            error = run_timeout(flight.terms.timeout_s)
        alone = len(flight.pieces) == 1
        for ticket in flight.wanted:
            if alone:
                self._abort(ticket, error)
            else:
                self.again(ticket, error)

    def lost(self, flight: Flight, loss: Loss) -> None:
        """A run's worker is lost: each request is run again as suspicion says, or has its error."""
        if loss.cause is Cause.HUNG and not flight.overdue:
            loss = Loss(Cause.ENDED, loss.how)  # another slot of that worker held it up
        flight.untie()
        terms, alone = flight.terms, len(flight.pieces) == 1
        suspects: list[Ticket] = []
        for ticket in flight.wanted:
            step = next_step(
                loss.cause,
                attempts=ticket.attempts,
                alone=alone,
                apart=flight.slot.apart,
                idempotent=terms.idempotent,
            )
            if step is Step.BLAME:
                error = blame(loss, terms)
                _log.error("%s", error, extra=who(ticket))
                self._abort(ticket, error)
            elif step is Step.GIVE_UP:
                self._abort(ticket, lost(idempotent=terms.idempotent))
            elif step is Step.TRY_APART and self.apart is not None:
                self._detach(ticket)
                suspects.append(ticket)
            elif step is Step.REPEAT:
                self._repeat(ticket)
            else:
                self.again(ticket, lost())
        if suspects and self.apart is not None:
            self.apart.try_apart(flight.line, suspects, flight.slot.device)

    def again(self, ticket: Ticket, error: ServingError) -> None:
        """Run a request once more, alone; the second time its error stands."""
        if ticket.attempts:
            self._abort(ticket, error)
            return
        self._repeat(ticket)

    def _repeat(self, ticket: Ticket) -> None:
        self._detach(ticket)
        self.retake(ticket)

    def retake(self, ticket: Ticket) -> None:
        """Put a request whose last run is forgotten into its line once more."""
        try:
            ticket.line.retake(ticket)
        except ServingError as refused:
            self.fail(ticket, refused)

    def fail(self, ticket: Ticket, error: ServingError) -> None:
        """Answer a request with an error, unless it has been answered."""
        if ticket.closed:
            return
        let_go(ticket)
        ticket.line.outstanding -= ticket.callers
        ticket.line.statistics.fail(error, time.monotonic() - ticket.born, ticket.callers)
        _log.debug("failed: %s", error, extra=who(ticket))
        ticket.fail(error)

    def _detach(self, ticket: Ticket) -> None:
        """Forget a request's last run; from here on its pieces are stale."""
        ticket.line.withdraw(ticket)
        let_go(ticket)
        ticket.attempts += 1

    def _abort(self, ticket: Ticket, error: ServingError) -> None:
        ticket.line.withdraw(ticket)  # of a large request: what has not been sent need not be
        self.fail(ticket, error)

    def _results(self, flight: Flight, done: Done) -> Results:
        line, shape = flight.line, flight.shape
        scratch, flight.scratch = flight.scratch, None
        if scratch is not None and scratch.id != done.segment:
            self._arena.give(scratch)
            scratch = None
        used = self._arena.get(done.segment) if done.segment and scratch is None else scratch
        results = Results(done.outputs or (), used, self._arena, line.description.signature)
        shape.last_output_bytes = sum(w.nbytes + 64 for w in done.outputs or ())
        if flight.buffer.layout.outputs is not None:
            _log.warning(
                "outputs of %s have other shapes than those of an equal request before; "
                "they are copied from now on",
                line.description.servable,
            )
            line.static_outputs = False
            shape.learn(None)
        elif line.static_outputs and shape.outputs is None and not shape.has_strings:
            # Runs of strings are never bound: workers pack what they give, whatever is known of it.
            shape.learn(results.row_fields(flight.rows, line.description.batch))
        return results

    def _hand_out(self, flight: Flight, results: Results, done: Done, now: float) -> None:
        batched = flight.line.description.batch.batched
        if batched and len(flight.pieces) > 1 and not results.has_rows(flight.rows):
            for ticket in flight.wanted:
                self.again(ticket, InternalError("the outputs cannot be told apart by request"))
            return
        for piece in flight.pieces:
            if piece.stale:
                continue
            results.hold()
            ticket = piece.ticket
            start = ticket.first + piece.offset - flight.first if batched else 0
            ticket.parts.append(Part(piece.offset, piece.rows, results, start))
            self._advance(piece, done, now)

    def _advance(self, piece: Piece, done: Done, now: float) -> None:
        """Rows of a request are done; with the last of them it is answered."""
        if piece.stale:
            return
        ticket = piece.ticket
        ticket.unfinished -= piece.rows
        if ticket.unfinished:
            ticket.earlier += (done,)
            return
        line = ticket.line
        try:
            response = respond(ticket, line.description.signature, line.description.batch)
        except ServingError as error:
            self.fail(ticket, error)
            return
        line.outstanding -= ticket.callers
        born = ticket.born
        line.statistics.answered(ticket.rows, now - born, ticket.sent - born, done, ticket.callers)
        for run in ticket.earlier:
            line.statistics.spent(run)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("answered after %.2f ms", (now - born) * 1e3, extra=who(ticket))
        ticket.succeed(response)


def who(ticket: Ticket) -> dict[str, object]:
    """Return what a log line says about a request."""
    description = ticket.line.description
    return {
        "servable": description.servable,
        "version": description.version,
        "request_id": ticket.request.id or None,
    }
