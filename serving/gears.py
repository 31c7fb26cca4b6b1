"""Engines that take certain numbers of rows only: which of them a run has. Pure, Python 3.9 syntax.

An engine that was compiled for fixed batch sizes (Ascend's OM files) has *gears*: a run of fewer
rows is filled up to the next one, and the rows that filled it are thrown away.
"""

from __future__ import annotations

from typing import Optional, Sequence


def next_gear(gears: Optional[Sequence[int]], rows: int) -> int:
    """Return how many rows a run of ``rows`` has; raises ValueError beyond the largest gear.

    ``gears`` are ascending; None takes any number.
    """
    if gears is None:
        return rows
    for gear in gears:
        if gear >= rows:
            return gear
    raise ValueError(f"{rows} rows are more than the largest gear takes ({gears[-1]})")


def most_rows(gears: Optional[Sequence[int]], limit: int) -> int:
    """Return the most rows of requests that one run takes, at most ``limit``."""
    return limit if gears is None else min(limit, gears[-1])
