"""Bounds the bytes of unfinished requests that all connections hold together."""

from __future__ import annotations


class Budget:
    """Counts bytes taken and given back; event loop only."""

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, size: int) -> bool:
        """Take so many bytes if there are as many left."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def give_back(self, size: int) -> None:
        """Return bytes that were taken."""
        self.left += size
