"""The waiting room of one function within one method: bounded, ordered, and what was learned."""

from __future__ import annotations

import heapq
import itertools
import math

from serving.definition import Function
from serving.errors import Overloaded
from serving.scheduling.drain import Drain
from serving.scheduling.stages.ticket import StageTicket
from serving.statistics import StageStatistics

_MOST_INSTANCES = 128
"""In one run, where the number is left to the server."""
_MOST_BYTES = 64 << 20
_SHORT_RUN_S = 0.002
"""Functions that are called for one instance at a time share a run up to this length."""
_WEIGHT = 1 / 4
_IN_USE_S = 10.0


class Room:
    """Tickets by priority, deadline and the age of their requests. Event loop only.

    ``running`` holds since when (monotonic) workers are at it, by run.
    """

    def __init__(self, servable: str, method: str, function: Function, max_waiting: int) -> None:
        self.servable = servable
        self.method = method
        self.function = function
        self.waiting = 0
        self.running: dict[int, float] = {}
        self.last_output_bytes = 0
        self._max_waiting = max_waiting
        self._run_s = 0.0
        self._each_s = 0.0
        self._claimed = -math.inf
        self._heap: list[tuple[int, float, float, int, StageTicket]] = []
        self._serials = itertools.count()
        self._drain = Drain()
        self._runs = self._instances = self._failed_runs = self._failures = self._busy_ns = 0

    def admit(self, now: float) -> None:
        """Raise Overloaded when as many wait as may."""
        if self.waiting >= self._max_waiting:
            raise Overloaded(
                f"function {self.function.name!r} of servable {self.servable!r} has a full queue",
                code="queue_full",
                expected=f"at most {self._max_waiting} waiting instances",
                given=f"{self.waiting} waiting",
                fix="try again later, or let more stage workers run this servable",
                retry_after_s=self._drain.retry_after_s(self.waiting),
                limit=self._max_waiting,
            )
        self._claimed = now

    def enter(self, ticket: StageTicket) -> None:
        """Let a ticket wait; one that is back from a lost run is older than most."""
        claim = ticket.claim
        due = math.inf if claim.deadline is None else claim.deadline
        entry = (claim.priority, due, claim.born, next(self._serials), ticket)
        heapq.heappush(self._heap, entry)
        ticket.waiting = True
        self.waiting += 1

    def leave(self, ticket: StageTicket) -> None:
        """A ticket waits no more; its entry goes when it comes to the top."""
        if ticket.waiting:
            ticket.waiting = False
            self.waiting -= 1
            if not self.waiting:
                self._heap.clear()

    def head(self) -> StageTicket | None:
        """Return the ticket whose turn it is."""
        while self._heap and not self._heap[0][-1].waiting:
            heapq.heappop(self._heap)
        return self._heap[0][-1] if self._heap else None

    def everyone(self) -> list[StageTicket]:
        """Return all that wait, in no order."""
        return [entry[-1] for entry in self._heap if entry[-1].waiting]

    def take(self, most: int) -> list[StageTicket]:
        """Return the tickets of the next run, which wait no more; at most so many."""
        taken: list[StageTicket] = []
        nbytes = 0
        while len(taken) < most and (ticket := self.head()) is not None:
            nbytes += ticket.nbytes
            if taken and (nbytes > _MOST_BYTES or ticket.attempts):
                break
            taken.append(ticket)
            heapq.heappop(self._heap)
            self.leave(ticket)
            if ticket.attempts:
                break
        return taken

    @property
    def most(self) -> int:
        """How many instances the next run may take."""
        head = self.head()
        if head is not None and head.attempts:
            return 1
        size = self.function.batch_size
        if size is not None:
            return size or _MOST_INSTANCES
        if not self._each_s:
            return 1
        return max(1, min(_MOST_INSTANCES, int(_SHORT_RUN_S / self._each_s)))

    def in_use(self, now: float) -> bool:
        """Return whether somebody waits or runs here, or did lately."""
        return bool(self.waiting or self.running) or now - self._claimed < _IN_USE_S

    def run_s(self, now: float) -> float:
        """Return what a run takes: as learned, or as long as one has been under way by now."""
        return max([self._run_s, *[now - since for since in self.running.values()]])

    # -- what its runs tell --------------------------------------------------------------------

    def ran(self, instances: int, failures: int, busy_ns: int, output_bytes: int) -> None:
        """A run went well, though the function may have failed on some of its instances."""
        busy_s = max(busy_ns / 1e9, 1e-9)
        weight = _WEIGHT if self._runs else 1.0
        self._run_s += (busy_s - self._run_s) * weight
        self._each_s += (busy_s / instances - self._each_s) * weight
        self.last_output_bytes = output_bytes
        self._runs += 1
        self._instances += instances
        self._failures += failures
        self._busy_ns += busy_ns

    def failed(self) -> None:
        """A run was lost, or failed as a whole."""
        self._failed_runs += 1

    def landed(self, run: int, instances: int, now: float) -> None:
        """A worker is done with a run, however it ended."""
        del self.running[run]
        self._drain.landed(instances, now, busy=self.waiting > 0)

    def statistics(self) -> StageStatistics:
        """Return how it stands."""
        return StageStatistics(
            self.method, self.function.name, self.waiting, len(self.running), self._runs,
            self._instances, self._failures, self._failed_runs, self._busy_ns,
        )  # fmt: skip
