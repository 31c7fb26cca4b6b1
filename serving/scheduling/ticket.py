"""One request on its way: waiting, in rows, running, answered."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from serving.channel.batch_buffer import text_bytes
from serving.channel.messages import Done
from serving.errors import ServingError
from serving.request import InferRequest, InferResponse, Listener
from serving.scheduling.admission import Admission
from serving.tensor import Tensor

if TYPE_CHECKING:
    from serving.scheduling.batch import Batch, ShapeClass
    from serving.scheduling.line import Line
    from serving.scheduling.results import Part


_log = logging.getLogger("serving.scheduler")


class Ticket:
    """A claim: what the data plane hands out. Touched by the event loop only.

    Its outcome goes to the listener, if there is one, else into ``answer``, a future that is made
    when somebody asks for it: a future with its callback costs more than most of what is done here.

    ``inputs`` are in signature order. ``first`` is its first row in ``batch``; ``dispatched``
    of its rows have been sent to workers and ``unfinished`` are not back yet. It was ``sent``
    when the first of them was; ``earlier`` are the runs that are over, of one cut into several.
    """

    __slots__ = (
        "_answer", "_listener", "_outcome", "admission", "alone", "attempts", "batch", "born",
        "closed", "committed", "dispatched", "earlier", "first", "inputs", "line", "nbytes",
        "parts", "request", "rows", "sent", "shape", "text", "timer", "unfinished", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        request: InferRequest,
        admission: Admission,
        shape: ShapeClass,
        line: Line,
        born: float,
    ) -> None:
        self.request = request
        self.admission = admission
        self.shape = shape
        self.line = line
        self._answer: asyncio.Future[InferResponse] | None = None
        self._listener: Listener | None = None
        self._outcome: InferResponse | ServingError | None = None
        self.born = born
        self.sent = born
        order = admission.order
        self.inputs: tuple[Tensor, ...] = (
            request.inputs if order is None else tuple([request.inputs[i] for i in order])
        )
        self.rows = admission.rows
        self.text = text_bytes(self.inputs) if admission.has_strings else 0
        self.nbytes = admission.nbytes + self.text
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

    @property
    def answer(self) -> asyncio.Future[InferResponse]:
        """The response or the error, for those who wait; see ``Claim``."""
        answer = self._answer
        if answer is None:
            answer = self._answer = asyncio.get_running_loop().create_future()
            outcome, self._outcome = self._outcome, None
            if outcome is not None:
                self._settle(outcome)
        return answer

    def tell(self, listener: Listener) -> None:
        """Hand the outcome to a listener; see ``Claim``. Asked for before there is one."""
        self._listener = listener

    def succeed(self, response: InferResponse) -> None:
        """Answer; if nobody waits any more the response is released at once."""
        self._close()
        listener, self._listener = self._listener, None
        if listener is None:
            self._settle(response)
            return
        try:
            listener(response)
        except Exception:  # the others of the run are to have their answers
            _log.exception("an answer could not be handed on")
            response.release()

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
            asyncio.get_running_loop().call_soon(listener, error)

    def drop(self) -> None:
        """Nobody looks at the outcome any more, whatever it will be or is; it is released."""
        self._listener = None
        answer, outcome = self._answer, self._outcome
        if answer is not None and answer.done() and not answer.cancelled():
            # An exception that nobody has seen would be logged.
            outcome = None if answer.exception() is not None else answer.result()
        if isinstance(outcome, InferResponse):
            outcome.release()

    def _settle(self, outcome: InferResponse | ServingError) -> None:
        """Leave the outcome for whoever comes to look."""
        answer = self._answer
        if answer is None:
            self._outcome = outcome
        elif isinstance(outcome, ServingError):
            if not answer.done():
                answer.set_exception(outcome)
        elif answer.done():
            outcome.release()
        else:
            answer.set_result(outcome)

    def _close(self) -> None:
        self.closed = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
