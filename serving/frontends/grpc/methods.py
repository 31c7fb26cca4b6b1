"""What a service offers an engine: its methods, by path, and the way a call says that it failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from serving.frontends.grpc.status import Outcome

Context = Any
"""What an engine tells of a call: ``invocation_metadata()``, ``time_remaining()``, ``peer()`` and
``cancelled()``, which mean what they mean in grpcio's ``ServicerContext``."""


class DirectContext(Protocol):
    """What an engine tells of a call that it begins without a task; all that ``Context`` has."""

    def terms(self, id_key: str) -> tuple[str, float | None]:
        """Return the metadata's value under ``id_key``, "" if there is none, and the deadline.

        That is monotonic seconds, None without one.
        """
        ...

    def invocation_metadata(self) -> Any:
        """Return what the client sent along."""
        ...

    def time_remaining(self) -> float | None:
        """Return the seconds left, None when the client set no deadline."""
        ...

    def peer(self) -> str:
        """Return who calls."""
        ...


Finish = Callable[[bytes | BaseException], None]
"""Takes what a call came to: the serialised answer, or what went wrong."""


class Running(Protocol):
    """A call that runs without a task."""

    def abandon(self) -> None:
        """Nobody waits any more: withdraw it, and finish nothing."""
        ...


Direct = Callable[[Any, DirectContext, Finish], Running | None]
"""Begins a unary call without a task, and finishes it once, unless it is abandoned.

The message is bytes, or a view. Returns None, having done nothing, when the call is better run as
a task; raises what it refuses.
"""


@dataclass(frozen=True)
class Shortcut:
    """A method's way without a task; ``ending`` counts what went wrong and says how calls end.

    With ``views`` it may be given a large message as a ``memoryview`` of memory of its own.
    """

    begin: Direct
    ending: Callable[[BaseException], Outcome]
    views: bool = False


@dataclass(frozen=True)
class Method:
    """One method of a service.

    ``behaviour`` takes the request, or an async iterator of requests, and the ``Context``; it
    returns the response to be awaited, or an async iterator of responses. It raises ``CallFailed``
    to end the call with a status. ``read`` and ``write`` None is for serialised messages.
    """

    behaviour: Callable[[Any, Context], Any]
    shortcut: Shortcut | None = None
    request_streaming: bool = False
    response_streaming: bool = False
    read: Callable[[bytes], Any] | None = None
    write: Callable[[Any], bytes] | None = None


Methods = Mapping[str, Method]
"""Methods by path: ``/package.Service/Method``."""


class CallFailed(Exception):
    """Ends a call with a status that is not OK."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.details)
        self.outcome = outcome
