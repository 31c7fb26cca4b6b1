"""How runs of functions end: outcomes handed out, what was lost run once more, tickets closed."""

from __future__ import annotations

import logging

from serving.channel.arena import Arena
from serving.channel.messages import Failed, StageDone
from serving.channel.packet import Outcome, read
from serving.definition import BUILTINS
from serving.errors import DeadlineExceeded, ExecutionFailed, InternalError, ServingError, from_wire
from serving.scheduling.stages.answer import Output, StageAnswer
from serving.scheduling.stages.flight import StageFlight
from serving.scheduling.stages.memory import RunMemory
from serving.scheduling.stages.ticket import StageTicket
from serving.scheduling.suspicion import Cause, Loss, lost

_log = logging.getLogger("serving.stages")


class StageEndings:
    """Settles what a stage worker answered. Called by the scheduler, on the event loop."""

    def __init__(self, arena: Arena, memory: RunMemory) -> None:
        self._arena = arena
        self._memory = memory

    def finished(self, flight: StageFlight, done: StageDone) -> None:
        """The function has run on all instances; ValueError where the outcomes are damaged.

        Then the worker must not be trusted any further; the flight still holds its segments.
        """
        segment = flight.output
        if segment is None or segment.id != done.segment:
            raise ValueError("outcomes in a segment that the run was not lent")
        outcomes = read(segment.bytes)
        if len(outcomes) != len(flight.tickets):
            raise ValueError(f"{len(outcomes)} outcomes for {len(flight.tickets)} instances")
        flight.output = None
        output = Output(self._arena, segment)
        failures = sum([isinstance(outcome, str) for outcome in outcomes])
        used = min(done.nbytes, segment.size)
        flight.room.ran(len(outcomes), failures, done.busy_ns, used)
        for ticket, outcome in zip(flight.tickets, outcomes, strict=True):
            if not ticket.closed:
                self._settle(ticket, outcome, output)
        output.release()
        self._arena.give(flight.input)

    def failed(self, flight: StageFlight, failed: Failed) -> None:
        """The run could not be carried out: one alone has its error, of several each runs again."""
        flight.room.failed()
        error = flight.denied or from_wire(failed.code, failed.message)
        if flight.overdue:
            error = _overdue(flight.rooms.terms.timeout_s)
        self._again_or_fail(flight, error)
        self._memory.let_go(flight)

    def lost(self, flight: StageFlight, loss: Loss) -> None:
        """The worker is lost: each instance runs once more, alone, or has its error.

        What the worker could write to is not used again before its process is gone.
        """
        if flight.lost:
            return
        flight.room.failed()
        terms, alone = flight.rooms.terms, len(flight.tickets) == 1
        repeat = terms.idempotent
        error: ServingError = lost(idempotent=terms.idempotent)
        if alone and flight.overdue:
            error, repeat = _overdue(terms.timeout_s), False
        elif alone and loss.cause is Cause.CRASHED:
            error = _blamed(loss)
        for ticket in flight.wanted:
            if repeat and not ticket.attempts:
                self._again(ticket)
            else:
                self.fail(ticket, error)
        flight.lost = True

    def fail(self, ticket: StageTicket, error: ServingError) -> None:
        """Answer an instance with an error, unless it has been answered."""
        if ticket.closed:
            return
        ticket.room.leave(ticket)
        ticket.rooms.outstanding -= 1
        ticket.fail(error)

    def _settle(self, ticket: StageTicket, outcome: Outcome, output: Output) -> None:
        function = ticket.room.function
        if isinstance(outcome, str):
            _log.debug("function failed: %s", outcome, extra=who(ticket))
            self.fail(ticket, _stage_failed(ticket, outcome))
        elif len(outcome) != function.outputs:
            text = f"a stage worker gave {len(outcome)} outputs instead of {function.outputs}"
            self.fail(ticket, InternalError(text))
        else:
            ticket.rooms.outstanding -= 1
            ticket.succeed(StageAnswer(outcome, output))

    def _again_or_fail(self, flight: StageFlight, error: ServingError) -> None:
        alone = len(flight.tickets) == 1
        for ticket in flight.wanted:
            if alone or ticket.attempts:
                self.fail(ticket, error)
            else:
                self._again(ticket)

    def _again(self, ticket: StageTicket) -> None:
        """Let an instance run once more, alone."""
        refusal = ticket.rooms.refusal
        if refusal is not None:
            self.fail(ticket, refusal)
            return
        ticket.attempts += 1
        ticket.room.enter(ticket)


def who(ticket: StageTicket) -> dict[str, object]:
    """Return what a log line says about an instance."""
    return {
        "servable": ticket.room.servable,
        "method": ticket.room.method,
        "function": ticket.room.function.name,
        "request_id": ticket.claim.id or None,
    }


def _stage_failed(ticket: StageTicket, text: str) -> ExecutionFailed:
    """Return the error of an instance, in the words that clients of MindSpore Serving know."""
    if ticket.room.function.name in BUILTINS:
        return ExecutionFailed(text)
    where = ticket.claim.where
    named = where.tag or f"Function '{ticket.room.servable}.{ticket.room.function.name}'"
    return ExecutionFailed(
        f"Call {named} Failed, "
        f"method: '{where.method}', stage index(begin with 1): {where.index}, error msg: {text}",
        code="stage_failed",
    )


def _overdue(limit_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(
        "a function took too long on this instance and was ended",
        code="run_timeout",
        expected=f"at most {limit_s:g} s",
        fix="raise run_timeout_s under [stages] in servable.toml, or let the function do less",
    )


def _blamed(loss: Loss) -> InternalError:
    return InternalError(
        "the stage worker ended while it ran a function on this instance and nothing else",
        code="crashed_the_worker",
        given=loss.how,
        fix="change the values of this request; do not send it again as it is",
    )
