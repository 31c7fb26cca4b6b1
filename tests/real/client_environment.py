"""Packages with the clients of other servers, each in a virtual environment of its own.

The environments are in the cache of ``tests.real.fetch``, one for each package and version; pip
fills them once.
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
from tests.server import ServerProcess

PACKAGES = {
    # Its messages were generated long ago: newer runtimes of protobuf refuse them.
    "ovmsclient": ("ovmsclient==2023.1", "protobuf<3.21", "setuptools<81"),
    "tensorflow-serving-api": ("tensorflow-serving-api==2.21.0",),
    "kserve": ("kserve==0.21.0",),
    "mlserver": ("mlserver==1.7.1", "pandas<3"),
    "nvidia-pytriton": ("nvidia-pytriton==0.7.0",),
    "openapi-python-client": ("openapi-python-client==0.29.1", "numpy"),
}


def python_with(package: str) -> Path:
    """Return an interpreter that has the package; raises FetchFailed."""
    wanted = PACKAGES[package]
    kept = cache_dir() / wanted[0].replace("==", "-")
    kept.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(kept.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.is_dir():
            _install(wanted, kept)
        return kept / "bin" / "python"
    finally:
        os.close(lock)


def run_calls(python: Path, script: Path, package: str, server: ServerProcess) -> str:
    """Let a script call a server with the client of a package; return what it printed."""
    ran = subprocess.run(
        [python, script, package, server.grpc, f"127.0.0.1:{server.rest_port}"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={name: v for name, v in os.environ.items() if not name.startswith("PYTHON")},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def _install(wanted: tuple[str, ...], kept: Path) -> None:
    draft = Path(tempfile.mkdtemp(dir=kept.parent))
    for command in (
        [sys.executable, "-m", "venv", str(draft)],
        [str(draft / "bin" / "python"), "-m", "pip", "install", "--no-cache-dir", *wanted],
    ):
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if ended.returncode:
            shutil.rmtree(draft)
            raise FetchFailed(f"{wanted[0]} cannot be installed:\n{ended.stderr[-2000:]}")
    draft.replace(kept)
