"""POSIX shared memory objects as clients make them: files in /dev/shm, none of which is left."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path("/dev/shm")
_PREFIXES = ("serving-test-", "my-")  # "my-": those of the guide's example


def names_of_servers() -> set[str]:
    """Return the objects that no test made as a client; tests run side by side."""
    return {name for name in os.listdir(FOLDER) if not name.startswith(_PREFIXES)}


class Objects:
    """Makes objects under names of their own."""

    def __init__(self) -> None:
        self.prefix = f"{_PREFIXES[0]}{uuid.uuid4().hex[:12]}"

    def name(self, word: str) -> str:
        return f"{self.prefix}-{word}"

    def path(self, word: str) -> Path:
        return FOLDER / self.name(word)

    def make(self, word: str, data: bytes) -> str:
        """Make an object that holds ``data``; return its key."""
        self.path(word).write_bytes(data)
        return f"/{self.name(word)}"

    def left(self) -> list[str]:
        return [entry for entry in os.listdir(FOLDER) if entry.startswith(self.prefix)]


@contextlib.contextmanager
def shared_objects() -> Iterator[Objects]:
    """Yield a maker of objects; remove what it made."""
    objects = Objects()
    try:
        yield objects
    finally:
        for entry in objects.left():
            path = FOLDER / entry
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
