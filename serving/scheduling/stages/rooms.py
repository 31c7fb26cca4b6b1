"""All of one generation: its waiting rooms, its workers' slots, and what may be taken in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from serving.definition import Function
from serving.errors import ServingError, Unavailable
from serving.scheduling.stages.choice import Choice, MethodView, RoomView, choose
from serving.scheduling.stages.room import Room
from serving.scheduling.stages.slot import StageSlot
from serving.scheduling.suspicion import RunTerms, no_worker


class Rooms:
    """Rooms come with the first claim. ``no_worker`` says why nothing can be run, else it is ""."""

    def __init__(
        self,
        generation: int,
        servable: str,
        functions: Sequence[Function],
        max_waiting: int,
        terms: RunTerms,
    ) -> None:
        self.generation = generation
        self.servable = servable
        self.terms = terms
        self.slots: list[StageSlot] = []
        self.outstanding = 0
        self.closing = False
        self.no_worker = ""
        self.timer: asyncio.TimerHandle | None = None
        self._functions = {function.name: function for function in functions}
        self._max_waiting = max_waiting
        self._rooms: dict[tuple[str, str], Room] = {}

    @property
    def refusal(self) -> ServingError | None:
        """Return why nothing is taken in, None while all is well."""
        if self.closing:
            return Unavailable("the version was unloaded", code="unloaded", retry_after_s=1.0)
        return no_worker(self.no_worker) if self.no_worker else None

    def room(self, method: str, function: str) -> Room:
        """Return the room of a function within a method. Raises KeyError for no such function."""
        found = self._rooms.get((method, function))
        if found is None:
            declared = self._functions[function]
            found = Room(self.servable, method, declared, self._max_waiting)
            self._rooms[method, function] = found
        return found

    def __iter__(self) -> Iterator[Room]:
        return iter(self._rooms.values())

    @property
    def keeps_free(self) -> bool:
        """Return whether a worker is free though somebody waits."""
        waiting = any(room.waiting for room in self._rooms.values())
        return waiting and not all(slot.busy for slot in self.slots)

    def choose(self, now: float) -> tuple[StageSlot, Room, int] | None:
        """Return the next run: on which slot, of which room, how many instances."""
        free = [slot for slot in self.slots if not slot.busy]
        waiting = [room for room in self._rooms.values() if room.waiting]
        if not free or not waiting:
            return None
        chosen = self._choice(waiting, len(free), now)
        if chosen is None:
            return None
        room = waiting[chosen.room]
        # The one that was at this method last has its code and memory in its caches. It also keeps
        # a slow method where it is, so that a fast one's worker has not just used up its time.
        slot = max(free, key=lambda s: (s.latest_method == room.method, s.latest_run))
        return slot, room, chosen.instances

    def _choice(self, waiting: list[Room], free: int, now: float) -> Choice | None:
        views = []
        for room in waiting:
            head = room.head()
            assert head is not None
            claim = head.claim
            views.append(RoomView(room.method, claim.priority, claim.born, room.waiting, room.most))
        return choose(views, self._methods(now), free=free, workers=len(self.slots))

    def _methods(self, now: float) -> dict[str, MethodView]:
        methods: dict[str, MethodView] = {}
        for room in self._rooms.values():
            if room.in_use(now):
                before = methods.get(room.method, MethodView(0, 0.0))
                methods[room.method] = MethodView(
                    before.running + len(room.running), max(before.run_s, room.run_s(now))
                )
        return methods
