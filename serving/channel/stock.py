"""Free segments of one size, found again by who had them last."""

from __future__ import annotations

from serving.channel.segment import Segment


class Stock:
    """Whoever comes again gets what it had: views and bindings over it are still there."""

    def __init__(self) -> None:
        self._free: dict[int, Segment] = {}  # the last is the one that was given back last
        self._had: dict[int, list[Segment]] = {}

    def __len__(self) -> int:
        return len(self._free)

    def give(self, segment: Segment) -> None:
        """Put a segment in."""
        self._free[segment.id] = segment
        self._had.setdefault(segment.user, []).append(segment)

    def take(self, user: int) -> Segment | None:
        """Take out what a user has given back last, if it still is here."""
        had = self._had.get(user)
        if not had:
            return None
        segment = had.pop()
        del self._free[segment.id]
        return segment

    def take_latest(self) -> Segment:
        """Take out what was given back last.

        Users who come in turns, and are too many for each to have its own, would else take each
        other's away before those came again; so all but one of them keep theirs.
        """
        _, segment = self._free.popitem()
        had = self._had[segment.user]
        had.pop()
        if not had:
            del self._had[segment.user]
        return segment
