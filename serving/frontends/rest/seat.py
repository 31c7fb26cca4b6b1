"""A request's place in its connection while it goes together with others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from serving.frontends.rest.row_form import Written
from serving.frontends.rest.wire import Reply

if TYPE_CHECKING:
    from serving.frontends.rest.lane import Head
    from serving.frontends.rest.party import Party
    from serving.frontends.rest.stencil import Stencil


class Caller(Protocol):
    """What a connection does for the request in its seat."""

    def go_alone(self, seat: Seat) -> None:
        """Let the request go by itself."""
        ...

    def answer(self, seat: Seat, start: bytes, written: Written, text: bytes, now: float) -> None:
        """Write one of the answers; ``start`` is the head of each, but for its length."""
        ...

    def reply(self, seat: Seat, reply: Reply) -> None:
        """Write a reply."""
        ...


class Seat:
    """Stands in a connection where uvicorn has its request's cycle; used for one after the other.

    ``data`` is the whole request. ``party`` are those it goes with, once they have gone. It is
    ``gone`` when the client is.
    """

    __slots__ = (
        "caller", "data", "gone", "keep_alive", "more_body", "party", "response_complete", "stencil"
    )  # fmt: skip

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.data = b""
        self.stencil: Stencil | None = None
        self.party: Party | None = None
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

    def abandon(self) -> None:
        """The client has gone: withdraw what runs, answer nothing."""
        self.gone = True
        party = self.party
        if party is not None and not self.response_complete:
            party.leave(self)
        self.response_complete = True
