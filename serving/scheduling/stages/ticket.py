"""One instance that waits for a function, runs, and is answered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving.errors import ServingError
from serving.scheduling.stages.answer import StageAnswer
from serving.tensor import Tensor

if TYPE_CHECKING:
    from serving.scheduling.stages.room import Room
    from serving.scheduling.stages.rooms import Rooms


@dataclass(frozen=True, slots=True)
class StagePlace:
    """Where in a method a stage stands; ``index`` begins with 1, as in MindSpore's messages.

    ``tag`` is the name that add_stage gave it, "" without.
    """

    method: str
    index: int
    tag: str = ""


@dataclass(frozen=True, slots=True)
class StageClaim:
    """What is asked for: a function on the values of one instance, and on what terms.

    Times are monotonic seconds. ``priority`` 0 is the most urgent; ``born`` is when the request
    came, not this stage of it: what has been under way for longest goes first.
    """

    values: tuple[Tensor, ...]
    where: StagePlace
    deadline: float | None
    priority: int
    id: str
    born: float


class StageTicket:
    """A claim on a function. Touched by the event loop only.

    ``answer`` is set once: to a StageAnswer that its owner releases, or to a ServingError.
    ``attempts`` counts the runs that were in vain; from the first on it runs alone.
    """

    __slots__ = ("answer", "attempts", "claim", "closed", "room", "rooms", "timer", "waiting")

    def __init__(
        self, claim: StageClaim, rooms: Rooms, room: Room, answer: asyncio.Future[StageAnswer]
    ) -> None:
        self.claim = claim
        self.rooms = rooms
        self.room = room
        self.answer = answer
        self.attempts = 0
        self.waiting = False
        self.closed = False
        self.timer: asyncio.TimerHandle | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return sum([value.nbytes for value in self.claim.values])

    def succeed(self, answer: StageAnswer) -> None:
        """Answer; if nobody waits any more it is released at once."""
        self.close()
        if self.answer.done():
            answer.release()
        else:
            self.answer.set_result(answer)

    def fail(self, error: ServingError) -> None:
        """Answer with an error, if somebody still waits."""
        self.close()
        if not self.answer.done():
            self.answer.set_exception(error)

    def close(self) -> None:
        """Nothing happens to it any more."""
        self.closed = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
