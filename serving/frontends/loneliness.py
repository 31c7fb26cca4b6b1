"""Whether small calls come in company, so that it pays to wait for others until a turn ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LONELY = 8
"""After so many turns in a row in which a call met no other, calls do not wait any more."""


class Loneliness:
    """Learned from how many calls of one form turns of the event loop bring. Event loop only.

    For so many calls as are ``remembered`` after another caller was about one may be yet.
    """

    __slots__ = ("_lonely", "_loop", "_met", "_others", "_remembered")

    def __init__(self, remembered: int = 0) -> None:
        self._lonely = LONELY
        self._met = False
        self._remembered = remembered
        self._others = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def has_company(self, under_way: int) -> bool:
        """Return whether a call that has come is to wait for others until the loop's turn ends.

        ``under_way`` are those that came before it. One that is alone would wait for nothing:
        while turns have lately brought one call each, it is only noticed when one brings two.
        While there is but one caller not even that is done.
        """
        if self._lonely < LONELY:
            return True
        if under_way:
            self._others = self._remembered
        elif not self._others:
            return False
        else:
            self._others -= 1
        if self._met:
            self._lonely = 0
            return True
        self._met = True
        self.soon(self._turn_ends)
        return False

    def came(self, calls: int) -> None:
        """So many calls had waited for each other when the turn ended."""
        self._lonely = self._lonely + 1 if calls == 1 else 0

    def soon(self, act: Callable[..., None], *args: object) -> None:
        """Act when this turn of the loop ends; to ask which loop it is takes a system call."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._loop.call_soon(act, *args)

    def _turn_ends(self) -> None:
        self._met = False
