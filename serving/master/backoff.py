"""How long to wait before a worker is started again: a pure rule."""

from __future__ import annotations

from collections.abc import Sequence

WINDOW_S = 60.0
FREE_RESTARTS = 2
LONGEST_S = 30.0


def restart_delay(ends: Sequence[float], now: float) -> float:
    """Return the wait in seconds, given when the worker ended (monotonic), the last included.

    The first ends within a minute cost nothing, so that a lone crash is mended at once; then
    the wait doubles from 0.2 s to half a minute.
    """
    recent = sum(now - end <= WINDOW_S for end in ends)
    if recent <= FREE_RESTARTS:
        return 0.0
    return float(min(LONGEST_S, 0.2 * 2 ** (recent - FREE_RESTARTS - 1)))
