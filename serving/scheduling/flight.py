"""The runs that workers are at."""

from __future__ import annotations

from dataclasses import dataclass

from serving.channel.batch_buffer import BatchBuffer
from serving.channel.segment import Segment
from serving.scheduling.batch import ShapeClass
from serving.scheduling.line import Line
from serving.scheduling.piece import Piece
from serving.scheduling.slot import Slot
from serving.scheduling.suspicion import RunTerms
from serving.scheduling.ticket import Ticket


@dataclass(slots=True)
class Flight:
    """It holds its buffer and its scratch segment.

    ``rows`` were sent, ``asked`` of them for requests: the others fill up a fixed batch. It is
    ``overdue`` once it has taken longer than its terms allow and was told to end.
    """

    id: int
    line: Line
    shape: ShapeClass
    buffer: BatchBuffer
    first: int
    rows: int
    asked: int
    pieces: list[Piece]
    slot: Slot
    scratch: Segment | None
    terms: RunTerms
    overdue: bool = False

    @property
    def wanted(self) -> list[Ticket]:
        """The requests that still want what the run does for them."""
        return [piece.ticket for piece in self.pieces if not piece.stale]

    def untie(self) -> None:
        """Let requests that came together each have a piece of its own."""
        self.pieces = [single for piece in self.pieces for single in _untied(piece)]

    @property
    def suspect(self) -> bool:
        """Whether some request in it was run before, and in vain."""
        return any(piece.attempt for piece in self.pieces)


def _untied(piece: Piece) -> list[Piece]:
    if piece.stale:
        return [piece]
    singles = piece.ticket.untie()
    if singles[0] is piece.ticket:
        return [piece]
    return [Piece(single, 0, single.rows, 0) for single in singles]


class Flights(dict[int, Flight]):
    """All that are under way, by number; answers what a watchdog asks of them."""

    def limit_s(self, run: int) -> float:
        """Return how long a run may take, 0 for no limit."""
        flight = self.get(run)
        return 0.0 if flight is None else flight.terms.timeout_s

    def overdue(self, run: int) -> None:
        """Note that a run has taken longer than that, and is being ended."""
        self[run].overdue = True
