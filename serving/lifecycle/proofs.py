"""What trial loads have shown, remembered by content, so that a restart need not repeat them."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
from pathlib import Path

import serving
from serving.channel.messages import Load
from serving.repository.snapshot import stamp_of
from serving.tensor import BatchAxes

_log = logging.getLogger("serving.lifecycle")

_PACKAGES = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu")}
"""The distributions that bring an engine, where one is not called as the backend is."""


def default_cache_dir() -> Path:
    """Return ``$XDG_CACHE_HOME/serving`` or ``~/.cache/serving``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base) / "serving" if base else Path.home() / ".cache" / "serving"


class Proofs:
    """A folder of small files, one for each (content, engine version, settings) that loaded well.

    Losing it costs a trial load. A folder that cannot be written is reported once and then done
    without.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "proofs"
        self._complained = False

    def recall(self, order: Load, digest: str) -> BatchAxes | None:
        """Return the batch axes that were proved for this content, or None."""
        try:
            data = json.loads(self._file(order, digest).read_bytes())
            return BatchAxes.from_json(data["batch"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, order: Load, digest: str, batch: BatchAxes) -> None:
        """Keep what a trial has shown."""
        file = self._file(order, digest)
        draft = file.with_suffix(f".{os.getpid()}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps({"name": order.name, "batch": batch.to_json()}))
            draft.replace(file)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            if not self._complained:
                self._complained = True
                _log.warning(
                    "the cache folder %s cannot be written (%s): every start will try models anew "
                    "(let this user write there, make room, or name another with --cache-dir)",
                    file.parent,
                    os.strerror(error.errno or 0),
                )

    def _file(self, order: Load, digest: str) -> Path:
        key = json.dumps(
            [
                digest,
                order.backend,
                engine_version(order.backend),
                serving.__version__,
                order.batch,
                order.max_batch_size > 1,
                order.threads,
                *([sorted(order.options.items())] if order.options else []),
                *_samples(order),
            ]
        )
        return self._folder / (hashlib.sha256(key.encode()).hexdigest() + ".json")


def _samples(order: Load) -> list[object]:
    """Return what tells one set of samples from another; they were run when it was tried out."""
    inputs = [fill for sample in order.warmup for fill in sample["inputs"].values()]
    files = [order.sample, *(told["file"] for told in (*order.warmup, *inputs))]
    seen = []
    for file in filter(None, files):
        with contextlib.suppress(OSError):  # one that is gone: loading says so
            seen.append([file, *stamp_of(os.stat(file))])
    return [list(order.warmup), seen] if seen or order.warmup else []


def engine_version(backend: str) -> str:
    """Return the version of an engine's package here, from its metadata; empty without one.

    The engine itself is never imported in the master.
    """
    for package in _PACKAGES.get(backend, (backend,)):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(package)
    return ""
