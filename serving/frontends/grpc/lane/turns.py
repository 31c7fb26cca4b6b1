"""Shares the event loop out among connections: those that have had their turn go on one by one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Turns:
    """One for a server. Each turn of the event loop one connection goes on; event loop only.

    So what one client has sent at once keeps another waiting for one turn, and not for a turn of
    each who did so.
    """

    __slots__ = ("_due", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._due = False

    def wait(self, go_on: Callable[[], None]) -> None:
        """Have ``go_on`` called when it is its turn; it may wait again."""
        self._waiting.append(go_on)
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        go_on = self._waiting.popleft()
        self._due = bool(self._waiting)
        if self._due:
            asyncio.get_running_loop().call_soon(self._next)
        go_on()
