"""What a free stage worker does next: a pure choice.

Methods share the workers, and what has been under way for longest goes first. With one worker that
is all there is to it. With several, a method whose runs are long leaves the last free worker to
those whose runs are short, as long as these are in use: a slow method must not delay a fast one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_LONG_RUN_S = 0.005
"""Runs shorter than this keep nobody waiting who would notice."""
_TIMES_LONGER = 2.0


@dataclass(frozen=True, slots=True)
class RoomView:
    """A room in which somebody waits.

    ``priority`` and ``born`` (when the request came) are those of its head; ``most`` is how many
    instances one run may take, 1 where the head has to run alone.
    """

    method: str
    priority: int
    born: float
    waiting: int
    most: int


@dataclass(frozen=True, slots=True)
class MethodView:
    """A method that is in use: how many workers are at it, and seconds that its runs take."""

    running: int
    run_s: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The room whose turn it is, by its place in the given sequence, and how many go."""

    room: int
    instances: int


def choose(
    rooms: Sequence[RoomView], methods: Mapping[str, MethodView], *, free: int, workers: int
) -> Choice | None:
    """Return what the next of ``free`` workers does; None when it is better kept free."""
    best: tuple[int, int, float] | None = None
    chosen = -1
    for place, room in enumerate(rooms):
        if free == 1 and _yields(room.method, methods, workers):
            continue
        rank = (room.priority, methods[room.method].running, room.born)
        if best is None or rank < best:
            best, chosen = rank, place
    if best is None:
        return None
    room = rooms[chosen]
    share = -(-room.waiting // free)
    return Choice(chosen, max(1, min(room.most, share)))


def _yields(method: str, methods: Mapping[str, MethodView], workers: int) -> bool:
    """Return whether a method leaves the last free worker to another one."""
    mine = methods[method]
    if workers < 2 or mine.running < workers - 1 or mine.run_s < _LONG_RUN_S:
        return False
    return any(
        mine.run_s > _TIMES_LONGER * other.run_s
        for name, other in methods.items()
        if name != method
    )
