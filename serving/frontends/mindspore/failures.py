"""Errors in MindSpore Serving's words: a code, a text, and whether they concern all instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from serving.errors import ExecutionFailed, ServingError, Status
from serving.frontends.mindspore.target import Target

OK, FAILED, INVALID_INPUTS, SYSTEM_ERROR, UNAVAILABLE = 0, 1, 2, 3, 5

CODES = {
    Status.INVALID_ARGUMENT: INVALID_INPUTS,
    Status.UNAUTHENTICATED: FAILED,
    Status.NOT_FOUND: INVALID_INPUTS,
    Status.PAYLOAD_TOO_LARGE: INVALID_INPUTS,
    Status.UNSUPPORTED_MEDIA_TYPE: INVALID_INPUTS,
    Status.METHOD_NOT_ALLOWED: INVALID_INPUTS,
    Status.RESOURCE_EXHAUSTED: FAILED,
    Status.FAILED_PRECONDITION: FAILED,
    Status.UNAVAILABLE: UNAVAILABLE,
    Status.DEADLINE_EXCEEDED: FAILED,
    Status.CANCELLED: FAILED,
    Status.UNIMPLEMENTED: FAILED,
    Status.INTERNAL: SYSTEM_ERROR,
}
"""The code for each kind of error, but for what ``_code`` knows better."""


_LOST = ("worker_lost", "crashed_the_worker")


class Failure(NamedTuple):
    """An entry of a reply: its code and its text; ``OK`` has none."""

    code: int
    text: str


GOOD = Failure(OK, "")


def told(error: ServingError, target: Target) -> Failure:
    """Return an error as a client of MindSpore Serving expects it."""
    return Failure(_code(error), _text(error, target))


def verdict(outcomes: Sequence[object], target: Target) -> tuple[Failure, ...]:
    """Return nothing if all instances have outputs, one failure for the request, or one for each.

    ``outcomes`` holds a ServingError for each instance that failed. Instances that all failed in
    the same way are one failure of the request.
    """
    if not any(isinstance(o, ServingError) for o in outcomes):
        return ()
    failures = tuple([told(o, target) if isinstance(o, ServingError) else GOOD for o in outcomes])
    different = set(failures)
    if different <= {GOOD}:
        return ()
    return failures if len(different) > 1 else failures[:1]


def _code(error: ServingError) -> int:
    if isinstance(error, ExecutionFailed):
        return SYSTEM_ERROR if error.code == "stage_failed" else FAILED
    # Of the request during which the last worker ended, it says that its inputs are at fault.
    return INVALID_INPUTS if error.code in _LOST else CODES[error.status]


def _text(error: ServingError, target: Target) -> str:
    if error.status is Status.NOT_FOUND:
        return target.missing("method" if error.code == "unknown_method" else "servable")
    if error.status is Status.UNAVAILABLE or error.code in _LOST:
        return target.missing("servable")
    if error.limit is not None:
        if error.status is Status.RESOURCE_EXHAUSTED:
            return f"Serving Error: enqueued requests count exceeds the limit {error.limit}"
        if error.status is Status.PAYLOAD_TOO_LARGE:
            return f"http message is bigger than {error.limit}"
    if error.status is Status.METHOD_NOT_ALLOWED:
        return "http message only support POST right now"
    return str(error)
