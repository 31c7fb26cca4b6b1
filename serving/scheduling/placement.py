"""Which free slot takes the next run: a pure choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SlotView:
    """A slot as placement sees it: its worker's number of busy slots, and its runs so far."""

    index: int
    worker_busy: int
    runs: int


def choose(free: Sequence[SlotView]) -> int | None:
    """Return the index of the slot on the least busy worker, the least used among equals."""
    if not free:
        return None
    return min(free, key=lambda slot: (slot.worker_busy, slot.runs)).index
