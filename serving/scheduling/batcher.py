"""How many of the waiting requests go into the next run: a pure decision.

What waits is shared evenly by the slots that serve the servable, counting what they run already,
so that eight waiting requests do not go as one batch to one worker while its neighbour is about
to be idle. A run takes no more than its share, no more than ``max_batch_size``, and no more than
what experience says a batch gains from. While the workers are not pressed it takes fewer yet: those
in a batch wait for each other, and that has to be worth what it saves those behind them.

While a slot is free nothing waits, with two exceptions: settings that ask for it
(``max_queue_delay_ms``), and company that experience says is about to come (``expected_rows``):
then the share is waited for while the last arrival is not longer ago than ``patience_s``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

_LEAST_IDLE = 0.02
"""Workers are never taken for busier than this leaves: one late request ends any queue."""


class Waiting(NamedTuple):
    """What the batcher sees of a servable's waiting room.

    ``rows`` are the row counts of the requests at the head that may share a run, in order;
    ``total_rows`` counts all that wait, ``running_rows`` what slots are at; ``oldest_s`` is how
    long the first has waited and ``quiet_s`` how long ago the last came. ``closed`` says that
    no more may join the head, ``lingers`` that the event loop may be about to bring some.
    A run takes ``fixed_s`` and ``row_s`` for each row (0: not known), and the slot has lately been
    ``busy`` for such a part of the time. Callers who are divided into relays have ``relay_rows``.
    """

    rows: Sequence[int]
    total_rows: int
    oldest_s: float
    closed: bool
    running_rows: int = 0
    best_rows: int = 1 << 30
    expected_rows: int = 0
    quiet_s: float = 0.0
    patience_s: float = 0.0
    lingers: bool = False
    fixed_s: float = 0.0
    row_s: float = 0.0
    busy: float = 1.0
    relay_rows: int = 1 << 30


@dataclass(frozen=True)
class Limits:
    """What the servable's settings say; ``max_queue_delay_s`` None leaves it to experience."""

    max_batch_size: int
    max_queue_delay_s: float | None = None


class Decision(NamedTuple):
    """Run the first ``requests`` now, or look again in ``wait_s`` (0: at the loop's next turn).

    ``part_rows`` is set when the first request alone is larger than a batch: so many of its
    rows go now. ``in_vain`` says that company was waited for and did not come.
    """

    requests: int = 0
    part_rows: int = 0
    wait_s: float | None = None
    in_vain: bool = False


def decide(waiting: Waiting, slots: int, limits: Limits) -> Decision:
    """Choose the next run for one free slot out of ``slots`` that serve this servable."""
    rows = waiting.rows
    if not rows:
        return Decision()
    most = limits.max_batch_size
    total = waiting.total_rows
    if limits.max_queue_delay_s and not waiting.closed and total < most:
        remaining = limits.max_queue_delay_s - waiting.oldest_s
        if remaining > 0:
            return Decision(wait_s=remaining)
    if rows[0] > most:
        return Decision(1, part_rows=max(1, min(most, -(-total // max(1, slots)))))
    if waiting.lingers and not waiting.closed and total < min(most, waiting.best_rows):
        return Decision(wait_s=0.0)
    inside = total + waiting.running_rows + waiting.expected_rows
    share = min(-(-inside // max(1, slots)), waiting.relay_rows)
    if not limits.max_queue_delay_s:
        share = min(share, _soonest(waiting, slots))
    share = max(1, min(most, waiting.best_rows, share))
    in_vain = False
    if waiting.expected_rows and total < share and not waiting.closed:
        remaining = waiting.patience_s - waiting.quiet_s
        if remaining > 0:
            return Decision(wait_s=remaining)
        in_vain = True
    taken = count = 0
    for given in rows:
        if count and taken + given > share:
            break
        taken += given
        count += 1
        if taken >= share:
            break
    return Decision(count, in_vain=in_vain)


def _soonest(waiting: Waiting, slots: int) -> int:
    """Return the rows of a run with which those who wait are answered soonest on average.

    Where a slot has m rows to run, k at a time, each run takes fixed + k row, the last of the m / k
    runs ends with the sum of all, and the mean of their ends is least for k = sqrt(m fixed / row).
    What comes meanwhile waits behind them too: with slots busy for a part b of the time, m stands
    for m / (1 - b), which under full load asks for the largest batch that pays.
    """
    if not waiting.row_s:
        return 1 << 30
    mine = (waiting.total_rows + waiting.expected_rows) / max(1, slots)
    idle = max(_LEAST_IDLE, 1.0 - waiting.busy)
    return math.ceil(math.sqrt(mine * waiting.fixed_s / waiting.row_s / idle))
