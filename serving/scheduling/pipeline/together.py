"""Callers of a method who came together, where it is one model and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable

from serving.errors import InternalError, ServingError
from serving.request import Description, InferResponse, RowsListener
from serving.scheduling.pipeline.direct import Taken, taken_of
from serving.scheduling.sheaf import SheafClaim

OnRowsEnd = Callable[[int, float, ServingError | None], None]
"""Told that so many callers, who came at that time (monotonic s), have heard: an error, or None."""


class TogetherClaim:
    """What was taken in for them, one instance each. Event loop only.

    It hears of rows of the model and tells of instances of the method, which is described by
    ``description``; ``on_end`` counts them there.
    """

    __slots__ = ("_born", "_description", "_listener", "_on_end", "_taken", "_waits", "claim")

    def __init__(
        self,
        listener: RowsListener,
        callers: int,
        taken: tuple[Taken, ...],
        description: Description,
        on_end: OnRowsEnd,
    ) -> None:
        self._listener: RowsListener | None = listener
        self._taken = taken
        self._description = description
        self._on_end = on_end
        self._born = time.monotonic()
        self._waits = bytearray(b"\1") * callers
        self.claim: SheafClaim | None = None

    @property
    def generation(self) -> int:
        """That of the version that they came to."""
        return self._description.generation

    def heard(self, start: int, count: int, outcome: InferResponse | BaseException) -> None:
        """Hand on what callers came to, from number ``start`` on, so many."""
        if not self._waits[start]:  # one who has gone; those who are tied all wait
            if isinstance(outcome, InferResponse):
                outcome.release()
            return
        self._waits[start : start + count] = bytes(count)
        if isinstance(outcome, InferResponse):
            outcome = self._of_method(outcome, count)
        error: ServingError | None = None
        if not isinstance(outcome, InferResponse):
            error = InternalError("the server failed on this request")
            if isinstance(outcome, ServingError):
                error = outcome
        self._on_end(count, self._born, error)
        listener = self._listener
        assert listener is not None
        self._let_go()
        listener(start, count, outcome)

    def waits(self, caller: int) -> bool:
        """Return whether a caller is there and has not heard."""
        return bool(self._waits[caller])

    def left(self, caller: int, error: ServingError) -> None:
        """Count one who has gone, and hears nothing."""
        self._waits[caller] = 0
        self._on_end(1, self._born, error)
        self._let_go()

    def _let_go(self) -> None:
        """Hold on to nothing once all have heard; see ``SheafClaim``."""
        if 1 not in self._waits:
            self._listener = self.claim = None

    def _of_method(self, response: InferResponse, count: int) -> InferResponse | ServingError:
        found = response.outputs
        try:
            response.outputs = tuple([taken_of(found[t.place], t, count) for t in self._taken])
        except InternalError as error:
            response.release()
            return error
        known = self._description
        response.servable, response.version = known.servable, known.version
        return response
