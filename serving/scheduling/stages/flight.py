"""The runs that stage workers are at."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from serving.channel.segment import Segment
from serving.errors import ServingError
from serving.scheduling.stages.room import Room
from serving.scheduling.stages.rooms import Rooms
from serving.scheduling.stages.slot import StageSlot
from serving.scheduling.stages.ticket import StageTicket


@dataclass(slots=True, eq=False)
class StageFlight:
    """It holds two segments: the packet that went out, and what the worker writes to.

    ``tickets`` are in the order of the packet. ``call`` is what the function asks of a model just
    now, ``denied`` why it did not get the memory that it asked for. It is ``overdue`` once it has
    taken longer than its terms allow, and ``lost`` with its worker.
    """

    id: int
    rooms: Rooms
    room: Room
    tickets: list[StageTicket]
    slot: StageSlot
    input: Segment
    output: Segment | None = None
    call: asyncio.Task[None] | None = None
    denied: ServingError | None = None
    overdue: bool = False
    lost: bool = False

    @property
    def wanted(self) -> list[StageTicket]:
        """The instances that somebody still waits for."""
        return [] if self.lost else [ticket for ticket in self.tickets if not ticket.closed]


class StageFlights(dict[int, StageFlight]):
    """All that are under way, by number; answers what a watchdog asks of them."""

    def limit_s(self, run: int) -> float:
        """Return how long a run may take, 0 for no limit."""
        flight = self.get(run)
        return 0.0 if flight is None else flight.rooms.terms.timeout_s

    def overdue(self, run: int) -> None:
        """Note that a run has taken longer than that, and is being ended."""
        self[run].overdue = True
