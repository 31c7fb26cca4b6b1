"""Looks at the model directory again and again, and passes on what is different."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Set
from dataclasses import replace

from serving.errors import ConfigError, did_you_mean, listing
from serving.lifecycle.manager import Manager
from serving.repository.observation import Observation

_log = logging.getLogger("serving.lifecycle")

_SHARE = 0.05
"""Most of the time that is spent looking: a large or slow directory is looked at less often.

One look that took long is chance (the process was stopped, a disk slept); two are the directory.
"""


Look = Callable[[Observation | None], Observation | None]
"""Looks at what there is to serve, given the look before; None if nothing is different."""


class Watcher:
    """Owns the last look. ``first`` once; ``stop`` ends the polling. Event loop only.

    ``look`` is called in a thread.
    """

    def __init__(self, look: Look, manager: Manager) -> None:
        self._look = look
        self._manager = manager
        self._seen: Observation | None = None
        self._told: set[str] = set()
        self._trouble = ""
        self._polling: asyncio.Task[None] | None = None

    async def first(self, names: Set[str] | None = None) -> None:
        """Look for the first time; returns when all that is to be loaded is READY or FAILED.

        ``names`` are the servables to load; None: all. Raises ConfigError when the model
        directory itself cannot be served.
        """
        seen = await asyncio.to_thread(self._look, None)
        assert seen is not None
        if names is not None:
            self._manager.available = frozenset(seen.offers)
            for name in sorted(names - seen.offers.keys()):
                hint = did_you_mean(name, seen.offers)
                _log.error(
                    "there is no servable %r to load at the start%s",
                    name,
                    f" ({hint})" if hint else "; expected " + (listing(seen.offers) or "none"),
                )
            offers = {name: offer for name, offer in seen.offers.items() if name in names}
            seen = replace(seen, offers=offers)
        self._take(seen)
        await self._manager.quiet()
        self._manager.settled = True

    def poll(self, interval_s: float) -> None:
        """Begin to look every ``interval_s`` seconds."""
        self._polling = asyncio.get_running_loop().create_task(self._poll(interval_s))

    async def stop(self) -> None:
        """Look no more."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)

    async def _poll(self, interval_s: float) -> None:
        took_s = [0.0, 0.0]
        while True:
            await asyncio.sleep(max(interval_s, min(took_s) / _SHARE))
            began = time.monotonic()
            try:
                self._take(await asyncio.to_thread(self._look, self._seen))
                self._trouble = ""
            except ConfigError as error:
                # Of a folder that cannot be looked at nothing is known: all goes on as it is.
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    _log.error("%s; what is loaded goes on", error)
            except Exception:
                _log.exception("looking at the model directory broke; it is tried again")
            took_s = [took_s[1], time.monotonic() - began]

    def _take(self, seen: Observation | None) -> None:
        if seen is None:
            return
        for note in seen.notes:
            if note not in self._told:
                self._told.add(note)
                _log.warning("%s", note)
        self._seen = seen
        self._manager.offer_all(seen.offers)
