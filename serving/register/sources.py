"""A servable's own Python files, read once: the code of one version, and its fingerprint.

Whatever is imported later is imported from here, and a worker that is started anew must find the
same fingerprint: what has been saved since belongs to another version.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Dict, Iterator, Mapping


def read(folder: Path) -> Dict[str, bytes]:
    """Return the contents of all ``.py`` files below a folder, by their paths. Raises OSError."""
    return {path: Path(path).read_bytes() for path in _files(folder)}


def fingerprint(folder: Path, files: Mapping[str, bytes]) -> str:
    """Return a digest of names and contents."""
    digest = hashlib.sha256()
    for path in sorted(files):
        content = files[path]
        digest.update(f"{os.path.relpath(path, folder)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders[:] = (f for f in folders if not f.startswith(".") and f != "__pycache__")
        for name in names:
            # An editor's ".#shop.py" is a link to nowhere.
            if name.endswith(".py") and not name.startswith("."):
                yield os.path.join(parent, name)
