"""Where the outcome of a claim goes: to a listener, to a future, or nowhere."""

from __future__ import annotations

import asyncio
import logging

from serving.errors import ServingError
from serving.request import InferResponse, Listener

_log = logging.getLogger("serving.scheduler")


class Awaited:
    """What is common to all claims; see ``dataplane.Claim``. Touched by the event loop only.

    The outcome goes to the listener, if there is one, else into ``answer``, a future that is made
    when somebody asks for it: a future with its callback costs more than most of what is done here.
    """

    __slots__ = ("_answer", "_listener", "_outcome")

    def __init__(self) -> None:
        self._answer: asyncio.Future[InferResponse] | None = None
        self._listener: Listener | None = None
        self._outcome: InferResponse | ServingError | None = None

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

    def drop(self) -> None:
        """Nobody looks at the outcome any more, whatever it will be or is; it is released."""
        self._listener = None
        answer, outcome = self._answer, self._outcome
        if answer is not None and answer.done() and not answer.cancelled():
            # An exception that nobody has seen would be logged.
            outcome = None if answer.exception() is not None else answer.result()
        if isinstance(outcome, InferResponse):
            outcome.release()

    def _hand_over(self, outcome: InferResponse | ServingError) -> None:
        """Give the outcome to the listener now, or leave it for whoever comes to look."""
        listener, self._listener = self._listener, None
        if listener is None:
            self._settle(outcome)
            return
        try:
            listener(outcome)
        except Exception:  # others whose answers came together with it are to have theirs
            _log.exception("an answer could not be handed on")
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
