"""Loads and unloads servables because somebody asks for it, not because files changed."""

from __future__ import annotations

import asyncio
import collections
import shutil
import tempfile
import time
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from serving.errors import LoadError, NotFound, did_you_mean
from serving.lifecycle.manager import Manager
from serving.repository import override as overrides
from serving.repository.observation import Offer, observe_one, of_one_version
from serving.repository.override import Override
from serving.repository.scanner import RepositoryScan, scan
from serving.repository.triton_folder import read_folder

_FRESH_S = 1.0
"""A look at the model directory for the index is good for this long."""

T = TypeVar("T")


class Control:
    """Owns the private folders of overridden servables. Event loop only.

    What was begun is carried to its end, even if nobody waits for it any more.
    """

    def __init__(self, model_dir: Path, manager: Manager) -> None:
        self._model_dir = model_dir
        self._manager = manager
        self._locks: collections.defaultdict[str, asyncio.Lock] = collections.defaultdict(
            asyncio.Lock
        )
        self._private: Path | None = None
        self._homes: dict[str, Path] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._looked = float("-inf")

    async def load(self, servable: str, override: Override) -> None:
        """Load a servable, or load it anew if it has changed, and wait until it serves.

        Raises NotFound; LoadError with the reason when some version of it does not serve (what
        served before goes on); InvalidRequest and ConfigError for an override that cannot be.
        """
        await self._finish(self._load(servable, override))

    async def unload(self, servable: str) -> None:
        """Take a servable down: its requests are answered first. Raises NotFound."""
        await self._finish(self._unload(servable))

    async def refresh(self) -> None:
        """Bring the names of what could be loaded up to date."""
        if time.monotonic() - self._looked > _FRESH_S:
            self._looked = time.monotonic()
            self._note(await asyncio.to_thread(scan, self._model_dir))

    async def stop(self) -> None:
        """End what is under way and remove the private folders."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._private is not None:
            await asyncio.to_thread(shutil.rmtree, self._private, ignore_errors=True)

    # -- inside --------------------------------------------------------------------------------

    async def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _load(self, servable: str, override: Override) -> None:
        if override:
            overrides.check(servable, override)
        async with self._locks[servable]:
            home = None
            if override.files:
                home = await asyncio.to_thread(self._write, servable, override)
            try:
                offer = await self._offer(servable, home, override)
                self._manager.offer(servable, offer)
                await self._manager.quiet(servable)
                if failures := self._manager.failures(servable):
                    raise LoadError(f"servable {servable!r}: {'; '.join(failures)}")
            except BaseException:
                if home is not None:
                    shutil.rmtree(home, ignore_errors=True)
                raise
            self._replace_home(servable, home)

    async def _unload(self, servable: str) -> None:
        async with self._locks[servable]:
            manager = self._manager
            known = {name for name, _ in manager.versions} | manager.unservable.keys()
            if servable not in known and servable not in manager.available:
                raise _unknown(servable, known | manager.available)
            manager.withdraw(servable)
            await manager.quiet(servable)
            self._replace_home(servable, None)

    async def _offer(self, servable: str, home: Path | None, override: Override) -> Offer:
        root = self._model_dir if home is None else home
        offer, found = await asyncio.to_thread(observe_one, root, servable)
        if home is None:
            self._note(found)
        if offer is None:
            raise _unknown(servable, self._manager.available)
        if override.config and home is None:
            offer = _configured(offer, override.config)
        offer = replace(offer, all_or_nothing=True)
        if not offer.sources and not offer.servable.reason and not offer.servable.versions:
            raise LoadError(f"servable {servable!r} holds no version")
        return offer

    def _write(self, servable: str, override: Override) -> Path:
        if self._private is None:
            self._private = Path(tempfile.mkdtemp(prefix="serving-loaded-"))
        home = Path(tempfile.mkdtemp(dir=self._private))
        try:
            overrides.write(home, servable, override)
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise
        return home

    def _replace_home(self, servable: str, home: Path | None) -> None:
        """Remove the files that were served before; workers load them no more."""
        before = self._homes.pop(servable, None)
        if home is not None:
            self._homes[servable] = home
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)

    def _note(self, found: RepositoryScan) -> None:
        self._manager.available = frozenset(s.name for s in found.servables)


def _configured(offer: Offer, config: str) -> Offer:
    """Return an offer with other settings than its folder has."""
    name = offer.servable.name
    triton = read_folder(overrides.config_text(config), "parameters.config", name)
    settings = of_one_version(triton.settings)
    sources = {
        number: replace(source, settings=settings, triton=triton)
        for number, source in offer.sources.items()
    }
    servable = replace(offer.servable, settings=triton.settings, triton=triton, reason="")
    return replace(offer, servable=servable, sources=sources)


def _unknown(servable: str, known: set[str] | frozenset[str]) -> NotFound:
    return NotFound(
        f"there is no servable {servable[:80]!r} in the model directory",
        code="unknown_servable",
        where="model_name",
        fix=did_you_mean(servable[:80], known),
    )
