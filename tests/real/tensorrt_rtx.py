"""TensorRT-RTX from the package index, in a folder of its own: it builds engines without a GPU.

The folder is ``tensorrt-rtx-<version>`` in the cache of ``tests.real.fetch``; ``pip install
--target`` fills it once (some 100 MB).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.real.fetch import FetchFailed, cache_dir

VERSION = "1.7.1.116"
_PACKAGES = ("tensorrt-rtx-cu13", "tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs")


def fetch() -> Path:
    """Return a folder for PYTHONPATH that has the module ``tensorrt_rtx``; raises FetchFailed."""
    kept = cache_dir() / f"tensorrt-rtx-{VERSION}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(kept.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.is_dir():
            _install(kept)
        return kept
    finally:
        os.close(lock)


def _install(kept: Path) -> None:
    wanted = [f"{package}=={VERSION}" for package in _PACKAGES]
    draft = Path(tempfile.mkdtemp(dir=kept.parent))
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(draft), *wanted]
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        shutil.rmtree(draft)
        raise FetchFailed(f"pip could not install TensorRT-RTX:\n{ended.stderr[-2000:]}")
    draft.replace(kept)
