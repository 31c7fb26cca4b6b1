"""SIGINT and SIGTERM in a process that a server lives in as a guest."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Stops the server on the first signal, and then does what the process itself would have done.

    ``stop`` is called in the main thread and must return at once; ``busy`` says whether that
    thread only waits for the server: to start, which then raises for the signal, or to end.
    Handlers can be set in the main thread only: of a server that is started in another one,
    signals end the process.
    """

    def __init__(self, stop: Callable[[], None], busy: Callable[[], bool]) -> None:
        self._stop = stop
        self._busy = busy
        self._before: dict[int, Any] = {}

    def catch(self) -> None:
        """Take the signals over; those that the process ignores stay ignored."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _NUMBERS:
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN and number not in self._before:
                self._before[number] = before
                signal.signal(number, self._caught)

    def give_back(self) -> None:
        """Put the handlers back that were there before, unless others were set since."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, before in self._before.items():
            if signal.getsignal(number) == self._caught:
                signal.signal(number, signal.SIG_DFL if before is None else before)
        self._before.clear()

    def _caught(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number)
        # Once more does what it does without a server: the kernel ends workers with their master.
        self.give_back()
        self._stop()
        if self._busy():
            return
        if callable(before):
            before(number, frame)
        else:
            raise SystemExit(128 + number)
