"""The SHA-256 of everything that a model consists of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import onnx

import serving
from serving.formats.progress import Progress

_CHUNK_BYTES = 4 << 20


def digest_of(path: Path, files: Mapping[str, Path], progress: Progress) -> str:
    """Return the digest of the file, or of it and each named file of weights in turn."""
    digest = hashlib.sha256()
    _feed(digest, path, progress)
    for location, file in files.items():
        digest.update(f"\0{location}\0{file.stat().st_size}\0".encode())
        _feed(digest, file, progress)
    return digest.hexdigest()


def code_digest() -> str:
    """Return a digest of this package and of what it stands on: of what conversions depend on."""
    digest = hashlib.sha256(f"{serving.__version__} {onnx.__version__}".encode())
    home = Path(__file__).parent
    for file in sorted(home.rglob("*.py")):
        digest.update(str(file.relative_to(home)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, path: Path, progress: Progress) -> None:
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            progress.step(f"read {done >> 20} MiB of {path.name}")
