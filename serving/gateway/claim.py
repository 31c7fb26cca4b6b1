"""One request that this process has sent to the master, until its answer is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.errors import ServingError
from serving.request import InferRequest, InferResponse
from serving.scheduling.awaited import Awaited

if TYPE_CHECKING:
    from serving.channel.segment import Segment


class RemoteClaim(Awaited):
    """What the data plane of a front-end process hands out. Event loop only.

    ``serial`` is 0 until it is committed: before that the master knows nothing of it. ``tray`` is
    where its inputs lie, if they were copied there, until the master has ended it.
    """

    __slots__ = ("abandoned", "request", "serial", "tray")

    def __init__(self, request: InferRequest) -> None:
        super().__init__()
        self.request = request
        self.serial = 0
        self.tray: Segment | None = None
        self.abandoned = False

    def end(self, outcome: InferResponse | ServingError) -> None:
        """Hand over what it came to; of one that was abandoned nobody hears."""
        if not self.abandoned:
            self._hand_over(outcome)
        elif isinstance(outcome, InferResponse):
            outcome.release()

    def drop(self) -> None:
        """Nobody looks at the outcome any more, whatever it will be or is; it is released."""
        self.abandoned = True
        super().drop()
