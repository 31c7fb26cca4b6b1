"""What a run does for one request."""

from __future__ import annotations

from typing import NamedTuple

from serving.scheduling.ticket import Ticket


class Piece(NamedTuple):
    """``rows`` rows of a ticket, from its row ``offset`` on, sent on its n-th attempt."""

    ticket: Ticket
    offset: int
    rows: int
    attempt: int

    @property
    def stale(self) -> bool:
        """True when nobody wants this piece any more: the ticket is answered or runs anew."""
        return self.ticket.closed or self.ticket.attempts != self.attempt
