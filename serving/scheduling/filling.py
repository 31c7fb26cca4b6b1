"""What an engine's gears leave of a batcher's decision: pure.

Slots of one version may differ: a CPU takes any number of rows, an Ascend device only those that
its model was compiled for. A run has as many rows as the next gear of the slot that it goes to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from serving.gears import most_rows
from serving.scheduling.batcher import Limits

Gears = Sequence[int] | None


def limits_on(limits: Limits, gears: Gears) -> Limits:
    """Return what the batcher may decide for a slot: no more rows than its largest gear."""
    if gears is None or gears[-1] >= limits.max_batch_size:
        return limits
    return replace(limits, max_batch_size=most_rows(gears, limits.max_batch_size))


def part_on(part_rows: int, left: int, gears: Gears) -> int:
    """Return how many rows of a large request go now, of those ``left``.

    What is not its last part must fill a gear: rows that filled up would overwrite those behind.
    """
    if gears is None or not part_rows:
        return part_rows
    fitting = [gear for gear in gears if gear <= part_rows]
    return min(left, fitting[-1] if fitting else gears[0])


def spare_rows(gears: Gears) -> int:
    """Return how many rows a buffer needs behind those of requests, so that every run fits."""
    return 0 if gears is None else gears[-1] - 1
