"""Folders of made things on disk, by identity: each is made once and found again after a restart.

::

    <folder>/<identity>/<label>       what is known of it, and the files' sizes, as JSON
    <folder>/<identity>/<file>...     its files
    <folder>/draft-<random>/          one that is being written

An entry appears whole or not at all, by a rename. Whoever uses one holds a shared lock on its
folder (``serving.inspection.hold_folder``); what nobody holds may be deleted to keep the folder
within its limit, the longest unused first. A draft is locked by its writer, so what a killed one
left is found and removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.inspection import hold_folder

_DRAFT = "draft-"
_NEWBORN_S = 60.0
"""A draft is left alone for so long: its writer may not have locked it yet."""


@dataclass(frozen=True)
class Draft:
    """A folder that is being filled, and the descriptor that locks it."""

    folder: Path
    held: int


@dataclass(frozen=True)
class Entry:
    """What is known of an entry, its folder, and a descriptor that holds it.

    ``fresh`` says that it was made just now, by this process.
    """

    told: Any
    folder: Path
    held: int
    fresh: bool = False


class KeptEntries:
    """A folder of entries, kept within ``limit_bytes``; every method may raise ``OSError``.

    ``label`` is the file of an entry that says what is known of it.
    """

    def __init__(self, folder: Path, limit_bytes: int, label: str) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._label = label

    def find(self, identity: str) -> Entry | None:
        """Return an entry that is whole; what is left of another is removed."""
        folder = self._folder / identity
        held = hold_folder(folder)
        if held is None:
            return None
        told = self._read(folder)
        if told is None:
            os.close(held)
            self.drop(identity)
            return None
        with contextlib.suppress(OSError):  # a folder that is only read is not trimmed either
            os.utime(folder)
        return Entry(told, folder, held)

    def drop(self, identity: str) -> None:
        """Remove an entry that is of no use."""
        _remove(self._folder / identity)

    @contextlib.contextmanager
    def draft(self) -> Iterator[Draft]:
        """Make a folder to write into; what is not kept is removed."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep()
        folder = self._folder / (_DRAFT + secrets.token_hex(8))
        folder.mkdir(mode=0o700)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield Draft(folder, held)
        finally:
            _remove(folder)
            os.close(held)

    def keep(self, draft: Draft, identity: str, told: Any) -> Entry:
        """Make a draft an entry, and delete others as the limit asks."""
        sizes = {file.name: file.stat().st_size for file in draft.folder.iterdir()}
        (draft.folder / self._label).write_text(json.dumps({"artifact": told, "files": sizes}))
        entry = self._folder / identity
        fcntl.flock(draft.held, fcntl.LOCK_SH)
        try:
            draft.folder.rename(entry)
        except OSError:  # another process was faster
            found = self.find(identity)
            if found is None:
                raise
            return found
        self._trim()
        return Entry(told, entry, os.dup(draft.held), fresh=True)

    def _read(self, folder: Path) -> Any:
        """Return what an entry says of itself, or None if it is not whole."""
        try:
            told = json.loads((folder / self._label).read_bytes())
            whole = all((folder / name).stat().st_size == n for name, n in told["files"].items())
            return told["artifact"] if whole else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _sweep(self) -> None:
        """Remove drafts whose writers are gone."""
        for folder in self._folder.glob(_DRAFT + "*"):
            with contextlib.suppress(FileNotFoundError):  # its writer may just rename it
                if time.time() - folder.stat().st_mtime > _NEWBORN_S:
                    _remove_unheld(folder)

    def _trim(self) -> None:
        """Delete what was not used for longest and is not in use, until the limit is kept."""
        entries = []
        for folder in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process may delete it
                if not folder.name.startswith(_DRAFT) and (folder / self._label).is_file():
                    size = sum(file.stat().st_size for file in folder.iterdir())
                    entries.append((folder.stat().st_mtime, size, folder))
        total = sum(size for _, size, _ in entries)
        for _, size, folder in sorted(entries):
            if total <= self._limit_bytes:
                return
            if _remove_unheld(folder):
                total -= size


def _remove_unheld(folder: Path) -> bool:
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(folder)
    except BlockingIOError:
        return False
    finally:
        os.close(held)
    return True


def _remove(folder: Path) -> None:
    """Delete a folder; it loses its name first, so that nobody finds it half deleted."""
    gone = folder.with_name(_DRAFT + secrets.token_hex(8))
    with contextlib.suppress(OSError):
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
