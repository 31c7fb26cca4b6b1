"""How a call ends that runs without a task: its answer is written, it fails, or it is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from serving.frontends.grpc.calls import Inference
from serving.frontends.grpc.methods import Finish


class Ending:
    """What every exchange of this side does last; counts the call until then.

    ``finish`` is called once with the outcome, never after the call was given up. Event loop only.
    """

    __slots__ = ("_finish", "_inference")

    def __init__(self, inference: Inference, finish: Finish) -> None:
        self._inference = inference
        self._finish: Finish | None = finish
        inference.begin()

    def _given_up(self) -> bool:
        """Nobody waits any more; False when nobody did before."""
        if self._finish is None:
            return False
        self._finish = None
        self._inference.end()
        return True

    def _answer(
        self, write: Callable[[], bytes], release: Callable[[], None], *, heavy: bool
    ) -> None:
        """Write the answer, on a thread if that is heavy, give its rows back, and end."""
        if heavy:
            # A call that is given up does not stop the thread: the rows go back when it is through.
            written = self._inference.on_thread(write)
            written.add_done_callback(lambda done: self._on_written(done, release))
            return
        outcome: bytes | BaseException
        try:
            outcome = write()
        except Exception as failed:
            outcome = failed
        release()
        self._end(outcome)

    def _on_written(self, done: asyncio.Future[bytes], release: Callable[[], None]) -> None:
        release()
        if done.cancelled():
            self._end(asyncio.CancelledError())
        else:
            self._end(done.exception() or done.result())

    def _end(self, outcome: bytes | BaseException) -> None:
        finish, self._finish = self._finish, None
        if finish is not None:
            self._inference.end()
            finish(outcome)
