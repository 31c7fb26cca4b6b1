"""How many of the waiting requests go into the next run: a pure decision.

Work-conserving: nothing waits while a slot is free, unless settings ask for company
(``max_queue_delay_ms``). While slots are busy requests pile up; what has piled up is split
evenly over the slots that serve the servable, so that eight waiting requests do not go as one
batch to one worker while its neighbour is about to be idle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Waiting:
    """What the batcher sees of a servable's waiting room.

    ``rows`` are the row counts of the requests at the head that may share a run, in order;
    ``total_rows`` counts all that wait; ``oldest_s`` is how long the first has waited.
    """

    rows: Sequence[int]
    total_rows: int
    oldest_s: float
    closed: bool


@dataclass(frozen=True)
class Limits:
    """What the servable's settings say."""

    max_batch_size: int
    max_queue_delay_s: float


@dataclass(frozen=True)
class Decision:
    """Run the first ``requests`` now, or look again in ``wait_s``.

    ``part_rows`` is set when the first request alone is larger than a batch: so many of its
    rows go now.
    """

    requests: int = 0
    part_rows: int = 0
    wait_s: float | None = None


def decide(waiting: Waiting, slots: int, limits: Limits) -> Decision:
    """Choose the next run for one free slot out of ``slots`` that serve this servable."""
    if not waiting.rows:
        return Decision()
    remaining = limits.max_queue_delay_s - waiting.oldest_s
    alone = waiting.total_rows < limits.max_batch_size and not waiting.closed
    if remaining > 0 and alone:
        return Decision(wait_s=remaining)
    share = -(-waiting.total_rows // max(1, slots))
    target = max(1, min(limits.max_batch_size, share))
    if waiting.rows[0] > limits.max_batch_size:
        return Decision(requests=1, part_rows=target)
    taken = 0
    count = 0
    for rows in waiting.rows:
        if count and taken + rows > target:
            break
        taken += rows
        count += 1
        if taken >= target:
            break
    return Decision(requests=count)
