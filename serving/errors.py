"""The one tree of errors; each knows its status, its stable code, and how to help.

Read by every layer and by workers too, so this file keeps to Python 3.9 syntax.
An error crosses a process boundary as words, never as an object.
"""

from __future__ import annotations

import difflib
import enum
from typing import Iterable, Optional, Union


class Status(enum.Enum):
    """What kind of failure it is; front ends map this, and only this, to HTTP and gRPC."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"


class ServingError(Exception):
    """A failure that a client may see: its text never holds a path or a segment's name.

    ``code`` is a stable snake_case word for programs; ``where`` the place in the request
    (``inputs.image``, ``instances[2].label``); ``expected`` and ``given`` what differed;
    ``fix`` what the caller can do about it; ``limit`` the number that was exceeded, if one was.
    ``refused`` is set where an outcome says that its request was not even taken in.
    """

    status: Status = Status.INTERNAL
    code: str = "internal"
    refused: bool = False

    def __init__(
        self,
        message: str,
        *,
        code: Optional[str] = None,
        where: str = "",
        expected: str = "",
        given: str = "",
        fix: str = "",
        retry_after_s: Optional[float] = None,
        limit: Optional[int] = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.where = where
        self.expected = expected
        self.given = given
        self.fix = fix
        self.retry_after_s = retry_after_s
        self.limit = limit

    def __str__(self) -> str:
        """Return the whole story on one line: message, what differed, and the way out."""
        text = self.message
        if self.expected:
            text += f"; expected {self.expected}"
        if self.given:
            text += f", given {self.given}" if self.expected else f"; given {self.given}"
        if self.fix:
            text += f" ({self.fix})"
        return text


class InvalidRequest(ServingError):
    """The caller's request cannot be understood or does not fit the signature."""

    status = Status.INVALID_ARGUMENT
    code = "invalid_request"


class RegionRange(InvalidRequest):
    """Bytes that are not within a client's shared memory, or are not there any more."""

    code = "region_range"


class NotFound(ServingError):
    """No such servable, version, method or route."""

    status = Status.NOT_FOUND
    code = "not_found"


class TooLarge(ServingError):
    """The request is over a size limit (of the message, or of what it unpacks to)."""

    status = Status.PAYLOAD_TOO_LARGE
    code = "request_too_large"


class UnsupportedMedia(ServingError):
    """A content type or encoding that this route does not read."""

    status = Status.UNSUPPORTED_MEDIA_TYPE
    code = "unsupported_media_type"


class Overloaded(ServingError):
    """A queue or the memory budget is full; trying again later may work."""

    status = Status.RESOURCE_EXHAUSTED
    code = "overloaded"


class Unavailable(ServingError):
    """Not ready, draining, or the worker that ran the request was lost."""

    status = Status.UNAVAILABLE
    code = "unavailable"


class DeadlineExceeded(ServingError):
    """The request's deadline passed before its answer was there."""

    status = Status.DEADLINE_EXCEEDED
    code = "deadline_exceeded"


class Cancelled(ServingError):
    """The caller went away or withdrew the request."""

    status = Status.CANCELLED
    code = "cancelled"


class Unimplemented(ServingError):
    """Part of a protocol that this server knows of and does not offer."""

    status = Status.UNIMPLEMENTED
    code = "unimplemented"


class ExecutionFailed(ServingError):
    """The model itself refused or failed on this request's values."""

    status = Status.INVALID_ARGUMENT
    code = "execution_failed"


class Unauthenticated(ServingError):
    """The caller has not shown that it may ask for this."""

    status = Status.UNAUTHENTICATED
    code = "unauthenticated"


class ControlOff(ServingError):
    """The server loads and unloads nothing on request."""

    status = Status.FAILED_PRECONDITION
    code = "control_off"


class InternalError(ServingError):
    """A fault of the server; its text says only that, the log says more."""

    status = Status.INTERNAL
    code = "internal"


class LoadError(ServingError):
    """A version cannot be loaded; seen by operators (log, index, ``serving list``)."""

    status = Status.FAILED_PRECONDITION
    code = "load_failed"


class ConfigError(ServingError):
    """A setting is wrong; names the file or flag, the key, and the nearest known key."""

    status = Status.FAILED_PRECONDITION
    code = "bad_configuration"


_BY_CODE: dict[str, type[ServingError]] = {
    cls.code: cls
    for cls in (
        InvalidRequest,
        NotFound,
        TooLarge,
        UnsupportedMedia,
        Overloaded,
        Unavailable,
        DeadlineExceeded,
        Cancelled,
        Unimplemented,
        ExecutionFailed,
        Unauthenticated,
        ControlOff,
        InternalError,
        LoadError,
        ConfigError,
        RegionRange,  # behind its kind, which ``kind`` is to find first
    )
}


def from_wire(code: str, message: str) -> ServingError:
    """Rebuild an error that another process sent as ``(code, message)``."""
    return of_kind(code)(message, code=code)


def kind(error: ServingError) -> str:
    """Return the word for an error's class, however special its own ``code`` is."""
    return next((word for word, cls in _BY_CODE.items() if isinstance(error, cls)), "internal")


def of_kind(word: str) -> type[ServingError]:
    """Return the class that ``kind`` has this word for; InternalError for an unknown one."""
    return _BY_CODE.get(word, InternalError)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the nearest known name, or an empty string.

    Near is what one name is a part of, or what shares most letters, in their order: those of the
    longer name count, so that a few letters strewn over a long one are no hint.
    """
    given = name.casefold()
    folded = {candidate.casefold(): candidate for candidate in known}
    for near in difflib.get_close_matches(given, list(folded), n=3, cutoff=0.6):
        if _is_near(given, near):
            return f"did you mean {folded[near]!r}?"
    return ""


def _is_near(given: str, known: str) -> bool:
    if given in known or known in given:
        return True
    blocks = difflib.SequenceMatcher(None, given, known).get_matching_blocks()
    return sum(block.size for block in blocks) >= 0.6 * max(len(given), len(known))


def listing(names: Union[Iterable[str], Iterable[int]], limit: int = 8) -> str:
    """Return names for a message, quoted and cut after ``limit``: ``'a', 'b' and 3 more``."""
    shown = [repr(n) if isinstance(n, str) else str(n) for n in names]
    rest = len(shown) - limit
    return ", ".join(shown[:limit]) + (f" and {rest} more" if rest > 0 else "")
