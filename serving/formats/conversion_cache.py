"""Converted models on disk, by content; for how see ``serving.kept_entries``.

::

    <folder>/<identity>/artifact.json    what the inspection found, and the files' sizes
    <folder>/<identity>/model.onnx       what engines load
    <folder>/<identity>/model.onnx.data  its large weights, if there are any
"""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from serving.artifact import Artifact, Conversion
from serving.kept_entries import Draft, Entry, KeptEntries

MODEL = "model.onnx"


class ConversionCache:
    """A folder of conversions, kept within ``limit_bytes``; every method may raise ``OSError``."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._entries = KeptEntries(folder, limit_bytes, "artifact.json")

    def find(self, identity: str) -> tuple[Artifact, int] | None:
        """Return what was found out about a kept model, and a descriptor that holds it."""
        entry = self._entries.find(identity)
        if entry is None:
            return None
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            artifact = Artifact.from_json(entry.told)
            if isinstance(artifact.conversion, Conversion):
                return _kept(artifact, entry)
        os.close(entry.held)
        self._entries.drop(identity)
        return None

    def draft(self) -> AbstractContextManager[Draft]:
        """Make a folder to write a model into; what is not kept is removed."""
        return self._entries.draft()

    def keep(self, draft: Draft, artifact: Artifact) -> tuple[Artifact, int]:
        """Make a draft an entry, and delete others as the limit asks; returns as ``find`` does."""
        assert artifact.conversion is not None
        entry = self._entries.keep(draft, artifact.conversion.identity, artifact.to_json())
        return _kept(Artifact.from_json(entry.told), entry)


def _kept(artifact: Artifact, entry: Entry) -> tuple[Artifact, int]:
    assert artifact.conversion is not None
    path = str(entry.folder / MODEL)
    conversion = replace(artifact.conversion, path=path, cached=not entry.fresh)
    return replace(artifact, conversion=conversion), entry.held
