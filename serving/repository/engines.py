"""Engines built for devices: asked of a builder in a helper, kept by content for the next start.

A builder (``serving.building.tensorrt``, ``serving.building.atc``) runs with the interpreter and
the environment of its backend, one at a time for each. It is first asked for the identity of what
it would make: a digest of content, engine version, device and options. Only if nothing is kept
under that does it build, into a draft of the cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.config import BackendSettings
from serving.errors import LoadError
from serving.kept_entries import Entry, KeptEntries
from serving.repository.backend_choice import Route
from serving.repository.helper import Helper, HelperFailed, last_words
from serving.tensor import BatchAxes, Signature

_LOG = logging.getLogger("serving.repository")

_FOLDER = "engines"
_LABEL = "built.json"
_SILENCE_S = 900.0
"""Engine builders may say nothing for minutes while they try kernels out."""


@dataclass(frozen=True)
class Order:
    """What to build: of which file, with which rows.

    ``signature`` is None where nobody could read it off the file.
    """

    source: Path
    format: str
    signature: Signature | None
    batch: BatchAxes
    max_batch_size: int
    batch_sizes: tuple[int, ...] | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the question that a builder reads."""
        return {
            "source": os.fspath(self.source.absolute()),
            "format": self.format,
            "signature": None if self.signature is None else self.signature.to_json(),
            "batch": self.batch.to_json(),
            "max_batch_size": self.max_batch_size,
            "batch_sizes": None if self.batch_sizes is None else list(self.batch_sizes),
            "options": dict(self.options),
        }


@dataclass(frozen=True)
class Built:
    """An engine's file, held in the cache by ``held``; ``cached`` if it was made before."""

    path: Path
    identity: str
    took_s: float
    cached: bool
    held: int
    notes: tuple[str, ...] = ()


class Engines:
    """The builders of one server and what they have made; ``close`` removes what is left.

    ``nice`` is added to the niceness of builders. Event loop only.
    """

    def __init__(
        self,
        cache_dir: Path,
        limit_mb: int,
        backends: Mapping[str, BackendSettings],
        nice: int = 0,
    ) -> None:
        self._folder = cache_dir / _FOLDER
        self._entries = KeptEntries(self._folder, limit_mb << 20, _LABEL)
        self._limit_bytes = limit_mb << 20
        self._backends = backends
        self._nice = nice
        self._lanes: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._scratch: Path | None = None

    def options(self, backend: str, own: Mapping[str, str]) -> dict[str, str]:
        """Return the options of a backend: the server's, and a servable's own over them."""
        return {**self._backends.get(backend, BackendSettings()).options, **own}

    async def build(self, route: Route, order: Order, tell: Callable[[str], None]) -> Built:
        """Return the engine for an order, built now or before; close ``held`` in the end.

        ``tell`` hears what is being done. Raises LoadError with the builder's reason.
        """
        settings = self._backends.get(route.backend, BackendSettings())
        async with self._lanes[route.builder]:
            helper = Helper(
                module=route.builder,
                timeout_s=_SILENCE_S,
                interpreter=settings.interpreter,
                env=settings.environment(route.backend),
                nice=self._nice,
            )
            try:
                return await self._asked(helper, route, order, tell)
            except HelperFailed as failure:
                said = last_words(helper.said, order.source)
                _LOG.warning("%s failed: it %s\n%s", route.builder, failure, helper.said)
                raise LoadError(
                    f"the builder for {route.backend} {failure}{said}", code="build_failed"
                ) from None
            finally:
                await helper.close()

    def close(self) -> None:
        """Remove what could not be kept in the cache folder."""
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    async def _asked(
        self, helper: Helper, route: Route, order: Order, tell: Callable[[str], None]
    ) -> Built:
        tell(f"asking what {route.backend} would build of it")
        question = order.to_json()
        answer = await helper.ask({"identity": question}, ("identity", "error"), tell)
        identity = _identity(_checked(answer, "identity"))
        found = await asyncio.to_thread(_find, self._entries, identity)
        if found is not None:
            return _built(found, identity)
        tell(f"building it for {route.backend}")
        try:
            return await self._make(self._entries, helper, identity, question, tell)
        except OSError as error:
            _LOG.warning(
                "the cache folder %s cannot be used (%s): an engine is built into a temporary "
                "folder, and again at every start (let this user write there, make room, or name "
                "another with --cache-dir)", self._folder, os.strerror(error.errno or 0),
            )  # fmt: skip
        return await self._make(self._temporary(), helper, identity, question, tell)

    async def _make(
        self,
        entries: KeptEntries,
        helper: Helper,
        identity: str,
        question: Mapping[str, Any],
        tell: Callable[[str], None],
    ) -> Built:
        with entries.draft() as draft:
            asked = {**question, "folder": os.fspath(draft.folder.absolute())}
            answer = await helper.ask(asked, ("built", "error"), tell)
            told = _checked(answer, "built")
            _check_file(told, draft.folder)
            return _built(entries.keep(draft, identity, told), identity)

    def _temporary(self) -> KeptEntries:
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="serving-engines-"))
        return KeptEntries(self._scratch, self._limit_bytes, _LABEL)


def _checked(answer: Mapping[str, Any], key: str) -> Any:
    """Return what was asked for; raises LoadError with what the builder said instead."""
    if "error" not in answer:
        return answer[key]
    error = answer["error"]
    try:
        raise LoadError(
            str(error["message"]), code=str(error.get("code") or "build_failed"),
            fix=str(error.get("fix") or ""),
        )  # fmt: skip
    except (TypeError, KeyError, AttributeError):
        raise HelperFailed("gave an answer that cannot be read") from None


def _identity(told: Any) -> str:
    if not isinstance(told, str) or not told.isalnum() or len(told) > 128:
        raise HelperFailed("gave an identity that is none")
    return told


def _check_file(told: Any, folder: Path) -> None:
    """Refuse a builder's answer that names no file of its folder."""
    name = told.get("file") if isinstance(told, Mapping) else None
    if not isinstance(name, str) or "/" in name or not (folder / name).is_file():
        raise HelperFailed("said that it was done, and its file is not there")


def _find(entries: KeptEntries, identity: str) -> Entry | None:
    with contextlib.suppress(OSError):
        entry = entries.find(identity)
        if entry is None or _usable(entry):
            return entry
        os.close(entry.held)
        entries.drop(identity)
    return None


def _usable(entry: Entry) -> bool:
    told = entry.told
    name = told.get("file") if isinstance(told, dict) else None
    return isinstance(name, str) and "/" not in name and (entry.folder / name).is_file()


def _built(entry: Entry, identity: str) -> Built:
    told = entry.told
    notes = told.get("notes") or []
    return Built(
        entry.folder / told["file"],
        identity,
        float(told.get("took_s") or 0.0),
        not entry.fresh,
        entry.held,
        tuple(str(note) for note in notes if isinstance(note, str)),
    )
