"""The response times of an ideal queue: c equal servers, one line, every job takes as long. Pure.

M/D/c is what a server could do at best that runs requests one by one and costs nothing itself. Its
percentiles have no closed form worth having; but with the arrivals given, each response follows
from the ones before it, so it is computed exactly for the very arrivals that a server was sent.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable


def response_times(arrivals: Iterable[float], service_s: float, servers: int) -> list[float]:
    """Return how long each job is there, in seconds; first come, first served.

    ``arrivals`` are times in ascending order.
    """
    free = [0.0] * servers
    found = []
    for at in arrivals:
        begins = max(at, heapq.heappop(free))
        heapq.heappush(free, begins + service_s)
        found.append(begins + service_s - at)
    return found


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the least value that so many percent of the values are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
