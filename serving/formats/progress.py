"""Signs of life during work that may take minutes: who waits counts silence, not size."""

from __future__ import annotations

import time
from typing import Callable

_STEP_S = 2.0


class Progress:
    """Passes on what is being done; ``step`` may be called often and passes on little."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told = time.monotonic()

    def stage(self, text: str) -> None:
        """Something else begins."""
        self._told = time.monotonic()
        self._tell(text)

    def step(self, text: str) -> None:
        """The same goes on, and further than the last time."""
        if time.monotonic() - self._told >= _STEP_S:
            self.stage(text)


def _unheard(_: str) -> None:
    pass


SILENT = Progress(_unheard)
