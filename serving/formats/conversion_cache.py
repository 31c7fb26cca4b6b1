"""Converted models on disk, by content: each is made once and found again after a restart.

::

    <folder>/<identity>/artifact.json    what the inspection found, and the files' sizes
    <folder>/<identity>/model.onnx       what engines load
    <folder>/<identity>/model.onnx.data  its large weights, if there are any
    <folder>/draft-<random>/             one that is being written

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
from dataclasses import dataclass, replace
from pathlib import Path

from serving.artifact import Artifact, Conversion
from serving.inspection import hold_folder

MODEL = "model.onnx"
_ARTIFACT = "artifact.json"
_DRAFT = "draft-"
_NEWBORN_S = 60.0
"""A draft is left alone for so long: its writer may not have locked it yet."""


@dataclass(frozen=True)
class Draft:
    """A folder that is being filled, and the descriptor that locks it."""

    folder: Path
    held: int


class ConversionCache:
    """A folder of conversions, kept within ``limit_bytes``; every method may raise ``OSError``."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes

    def find(self, identity: str) -> tuple[Artifact, int] | None:
        """Return what was found out about a kept model, and a descriptor that holds it."""
        folder = self._folder / identity
        held = hold_folder(folder)
        if held is None:
            return None
        artifact = _read(folder)
        if artifact is None:
            os.close(held)
            _remove(folder)
            return None
        with contextlib.suppress(OSError):  # a folder that is only read is not trimmed either
            os.utime(folder)
        assert artifact.conversion is not None
        kept = replace(artifact.conversion, path=str(folder / MODEL), cached=True)
        return replace(artifact, conversion=kept), held

    @contextlib.contextmanager
    def draft(self) -> Iterator[Draft]:
        """Make a folder to write a model into; what is not kept is removed."""
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

    def keep(self, draft: Draft, artifact: Artifact) -> tuple[Artifact, int]:
        """Make a draft an entry, and delete others as the limit asks; returns as ``find`` does."""
        assert artifact.conversion is not None
        identity = artifact.conversion.identity
        sizes = {file.name: file.stat().st_size for file in draft.folder.iterdir()}
        told = json.dumps({"artifact": artifact.to_json(), "files": sizes})
        (draft.folder / _ARTIFACT).write_text(told)
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
        kept = replace(artifact.conversion, path=str(entry / MODEL))
        return replace(artifact, conversion=kept), os.dup(draft.held)

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
                if not folder.name.startswith(_DRAFT) and (folder / _ARTIFACT).is_file():
                    size = sum(file.stat().st_size for file in folder.iterdir())
                    entries.append((folder.stat().st_mtime, size, folder))
        total = sum(size for _, size, _ in entries)
        for _, size, folder in sorted(entries):
            if total <= self._limit_bytes:
                return
            if _remove_unheld(folder):
                total -= size


def _read(folder: Path) -> Artifact | None:
    """Return what an entry says of itself, or None if it is not whole."""
    try:
        told = json.loads((folder / _ARTIFACT).read_bytes())
        whole = all((folder / name).stat().st_size == n for name, n in told["files"].items())
        artifact = Artifact.from_json(told["artifact"])
        return artifact if whole and isinstance(artifact.conversion, Conversion) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


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
