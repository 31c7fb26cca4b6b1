"""Tickets of one line for which there are no rows yet, by priority, deadline and arrival."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator

from serving.scheduling.sheaf import Sheaf
from serving.scheduling.ticket import Ticket

_Entry = tuple[int, float, int, int, Ticket]
"""Priority, deadline, arrival, and the place among those who came at once."""


class Queue:
    """Iterates over those that still wait, in no order. Those that were withdrawn are skipped."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._arrival = itertools.count()

    def __bool__(self) -> bool:
        """Whether anything stands here, be it withdrawn."""
        return bool(self._entries)

    def __iter__(self) -> Iterator[Ticket]:
        return iter([entry[4] for entry in self._entries if entry[4].waiting])

    def add(self, ticket: Ticket) -> None:
        """Let a ticket stand behind all that are as urgent; one that must run alone goes first."""
        deadline = ticket.request.deadline
        key = float("inf") if deadline is None else deadline
        priority = -1 if ticket.alone else ticket.request.priority
        heapq.heappush(self._entries, (priority, key, next(self._arrival), 0, ticket))

    def first(self, room_for: Callable[[Sheaf], int]) -> Ticket:
        """Return the ticket whose turn it is; of a sheaf so many callers as there is room for.

        The others stay where they stood.
        """
        priority, key, arrival, _, ticket = self._entries[0]
        if isinstance(ticket, Sheaf) and ticket.waiting:
            room = room_for(ticket)
            if ticket.callers > room:
                rest = ticket.split(room)
                heapq.heappush(self._entries, (priority, key, arrival, rest.start + 1, rest))
        return ticket

    def pop(self) -> None:
        """Take the first away."""
        heapq.heappop(self._entries)

    def untie(self, sheaf: Sheaf) -> None:
        """Let the callers of a sheaf each stand by themselves where it stood."""
        index = next(i for i, entry in enumerate(self._entries) if entry[4] is sheaf)
        priority, key, arrival, _, _ = self._entries.pop(index)
        for place, single in enumerate(sheaf.untie(), sheaf.start + 1):
            self._entries.append((priority, key, arrival, place, single))
        heapq.heapify(self._entries)
