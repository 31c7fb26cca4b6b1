"""When requests are to be sent in an open loop: a Poisson process, seeded; pure."""

from __future__ import annotations

import random
from collections.abc import Iterator


def poisson(rate: float, seconds: float, seed: int = 7) -> Iterator[float]:
    """Yield the times, in seconds from the start, of arrivals at ``rate`` a second."""
    draw = random.Random(seed)
    at = draw.expovariate(rate)
    while at < seconds:
        yield at
        at += draw.expovariate(rate)
