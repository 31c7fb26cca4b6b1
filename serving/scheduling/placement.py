"""Which free slot takes the next run: a pure choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SlotView:
    """A slot as placement sees it: its worker's number of busy slots, and its latest run.

    ``row_s`` is what a row takes there, as far as it is known and differs.
    """

    index: int
    worker_busy: int
    latest_run: int
    row_s: float = 0.0


def choose(free: Sequence[SlotView]) -> int | None:
    """Return the index of the slot on the least busy worker, the fastest, the latest used.

    Each counts among those that the one before leaves equal. The latest used worker has the model
    in its caches: taking turns made a lone client of a 0.7 ms model wait 1.16 ms instead of 0.98.
    """
    if not free:
        return None
    return min(free, key=lambda slot: (slot.worker_busy, slot.row_s, -slot.latest_run)).index
