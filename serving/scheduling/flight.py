"""A run that a worker is at."""

from __future__ import annotations

from dataclasses import dataclass

from serving.channel.batch_buffer import BatchBuffer
from serving.channel.segment import Segment
from serving.scheduling.batch import ShapeClass
from serving.scheduling.line import Line
from serving.scheduling.piece import Piece
from serving.scheduling.slot import Slot
from serving.scheduling.ticket import Ticket


@dataclass(slots=True)
class Flight:
    """It holds its buffer and its scratch segment.

    ``rows`` were sent, ``asked`` of them for requests: the others fill up a fixed batch.
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

    @property
    def wanted(self) -> list[Ticket]:
        """The requests that still want what the run does for them."""
        return [piece.ticket for piece in self.pieces if not piece.stale]
