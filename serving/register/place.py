"""A line of the user's code, as a path in the model repository."""

from __future__ import annotations

from pathlib import Path


def place_of(filename: str, line: int, folder: Path) -> str:
    """Return ``servable/file.py:12`` for a file beside ``folder`` or in it, else nothing."""
    try:
        path = Path(filename).relative_to(folder.parent)
    except ValueError:
        return ""
    return f"{path}:{line}"
