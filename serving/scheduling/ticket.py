"""One request on its way: waiting, in rows, running, answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from serving.channel.batch_buffer import text_bytes
from serving.channel.messages import Done
from serving.errors import ServingError
from serving.request import InferRequest, InferResponse, Listener
from serving.scheduling.admission import Admission
from serving.scheduling.awaited import Awaited
from serving.tensor import Tensor

if TYPE_CHECKING:
    from serving.scheduling.batch import Batch, ShapeClass
    from serving.scheduling.line import Line
    from serving.scheduling.results import Part


class Ticket(Awaited):
    """A claim: what the data plane hands out. Touched by the event loop only.

    ``inputs`` are in signature order. ``first`` is its first row in ``batch``; ``dispatched``
    of its rows have been sent to workers and ``unfinished`` are not back yet. It counts as
    ``callers`` requests, which is more than one for a ``Sheaf``. It was ``sent``
    when the first of them was; ``earlier`` are the runs that are over, of one cut into several.
    The outputs in ``stored`` are written by workers to where the client wants them.
    """

    __slots__ = (
        "admission", "alone", "attempts", "batch", "born",
        "callers", "closed", "committed", "dispatched", "earlier", "first", "inputs", "line",
        "nbytes",
        "parts", "request", "rows", "sent", "shape", "stored", "text", "timer", "unfinished",
        "waiting",
    )  # fmt: skip

    def __init__(
        self,
        request: InferRequest,
        admission: Admission,
        shape: ShapeClass,
        line: Line,
        born: float,
    ) -> None:
        super().__init__()
        self.request = request
        self.admission = admission
        self.shape = shape
        self.line = line
        self.born = born
        self.sent = born
        order = admission.order
        self.inputs: tuple[Tensor, ...] = (
            request.inputs if order is None else tuple([request.inputs[i] for i in order])
        )
        self.rows = admission.rows
        self.text = text_bytes(self.inputs) if admission.has_strings else 0
        self.nbytes = admission.nbytes + self.text
        self.callers = 1
        self.committed = False
        self.alone = False
        self.attempts = 0
        self.waiting = True
        self.closed = False
        self.timer: asyncio.TimerHandle | None = None
        self.restart()

    def restart(self) -> None:
        """Forget what has been run: all rows must be placed and run again."""
        self.batch: Batch | None = None
        self.first = 0
        self.dispatched = 0
        self.unfinished = self.rows
        self.parts: list[Part] = []
        self.earlier: tuple[Done, ...] = ()
        self.stored: tuple[str, ...] = ()

    def succeed(self, response: InferResponse) -> None:
        """Answer; if nobody waits any more the response is released at once."""
        self._close()
        self._hand_over(response)

    def fail(self, error: ServingError) -> None:
        """Answer with an error, if somebody still waits.

        A listener hears of it at the loop's next turn: it may give up other requests of its call,
        which must not happen in the middle of what is being done about a run.
        """
        self._close()
        listener, self._listener = self._listener, None
        if listener is None:
            self._settle(error)
        else:
            self._soon(listener, error)

    def untie(self) -> Sequence[Ticket]:
        """Return the tickets of single requests that it stands for: itself."""
        return (self,)

    @staticmethod
    def _soon(listener: Listener, error: ServingError) -> None:
        asyncio.get_running_loop().call_soon(listener, error)

    def _close(self) -> None:
        self.closed = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
