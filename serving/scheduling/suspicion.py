"""What becomes of the requests of a run that cost its worker: a pure rule, and the words for it.

A worker that was ended from outside (killed, stopped, silent) says nothing about its requests:
each runs once more, alone. A worker that crashed by itself, or hung, makes suspects of them: they
are tried one by one in a worker that serves nobody, so that serving workers are lost to a bad
request once and not again. Only what ends a worker while it is alone there is to blame. A worker
that lost its device says so itself: its requests are not suspects, and run elsewhere.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from serving.devices import Device
from serving.errors import DeadlineExceeded, InternalError, ServingError, Unavailable

if TYPE_CHECKING:
    from serving.scheduling.line import Line
    from serving.scheduling.ticket import Ticket

_MOST_REPEATS = 2


@dataclass(frozen=True)
class RunTerms:
    """What a servable says of its runs.

    ``timeout_s`` is the longest that one may take, 0 for no limit; only requests of an
    ``idempotent`` one are run again when their worker is lost.
    """

    timeout_s: float = 0.0
    idempotent: bool = True


class Cause(enum.Enum):
    """Why a worker was lost: by itself, by a run beyond its limit, from outside, by its device."""

    CRASHED = "crashed"
    HUNG = "hung"
    ENDED = "ended"
    DEVICE = "device"


@dataclass(frozen=True)
class Loss:
    """The end of a worker; ``how`` is for clients too: a signal's name or the like."""

    cause: Cause
    how: str


class Step(enum.Enum):
    """What is done with a request whose worker was lost."""

    REPEAT = "runs alone on a serving worker"
    TRY_APART = "runs alone in a worker that serves nobody"
    GIVE_UP = "is answered that its worker was lost"
    BLAME = "is answered that it ended or held up its worker"


class Apart(Protocol):
    """Who tries suspects in a worker that serves nobody."""

    def try_apart(self, line: Line, tickets: list[Ticket], device: Device) -> None:
        """Run each alone on such a device, once a worker is there; each is answered in the end."""
        ...


def next_step(cause: Cause, *, attempts: int, alone: bool, apart: bool, idempotent: bool) -> Step:
    """Decide about one request of a lost run.

    ``attempts`` is how often it was run before this; ``alone`` says that it had the run for
    itself, ``apart`` that the worker served nobody else.
    """
    if cause is not Cause.DEVICE and (apart or (alone and cause is Cause.HUNG)):
        return Step.BLAME
    if not idempotent or attempts >= _MOST_REPEATS:
        return Step.GIVE_UP
    if cause is Cause.DEVICE:
        return Step.REPEAT
    return Step.REPEAT if cause is Cause.ENDED and not attempts else Step.TRY_APART


def blame(loss: Loss, terms: RunTerms) -> ServingError:
    """Return what a request is told that ended its worker, or held it up, with no other in it."""
    if loss.cause is Cause.HUNG:
        return run_timeout(terms.timeout_s)
    return InternalError(
        "the model's process ended while it ran this request and nothing else",
        code="crashed_the_worker",
        given=loss.how,
        fix="change the values of this request; do not send it again as it is",
    )


def run_timeout(limit_s: float) -> ServingError:
    """Return what a request is told whose run was ended because it took too long."""
    return DeadlineExceeded(
        "the model took too long on this request and was ended",
        code="run_timeout",
        expected=f"at most {limit_s:g} s",
        fix="send fewer rows, or raise run_timeout_s in servable.toml or --run-timeout-s",
    )


def lost(*, idempotent: bool = True) -> ServingError:
    """Return what a request is told whose worker was lost through no fault that is known."""
    if idempotent:
        return Unavailable(
            "the worker that ran the request was lost",
            code="worker_lost",
            fix="send it again",
            retry_after_s=1.0,
        )
    return Unavailable(
        "the worker that ran the request was lost, and its servable is set idempotent = false, so "
        "it is not run again",
        code="worker_lost",
        fix="send it again if running it twice does no harm",
        retry_after_s=1.0,
    )


def no_worker(reason: str) -> ServingError:
    """Return what requests are told while no worker can be started."""
    return Unavailable(
        "no worker can be started, so nothing can be run",
        code="no_worker",
        given=reason,
        fix="see the server's log; it goes on trying",
        retry_after_s=5.0,
    )
