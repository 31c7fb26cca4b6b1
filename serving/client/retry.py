"""When a failed call may be made again, and after how long; pure.

Only what surely was not run is sent again: nothing listened at the address, or the server
refused and said when to come back (it is starting, loading or shutting down). Not sent again are
requests whose connection or worker was lost on the way, for they may have run and may have been
the reason; and those that found a full queue, for more of them would keep it full.
"""

from __future__ import annotations

from serving.client.failure import NO_SERVER
from serving.errors import ServingError, Unavailable

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
_MAY_HAVE_RUN = ("worker_lost", "connection_lost")


def pause_s(error: ServingError, attempt: int, retries: int, chance: float) -> float | None:
    """Return how long to wait before another attempt, or None for none.

    ``attempt`` counts from 0; ``chance``, at random from 0 to 1, spreads clients that failed at
    the same moment over the second half of the pause.
    """
    if attempt >= retries or not isinstance(error, Unavailable) or error.code in _MAY_HAVE_RUN:
        return None
    if error.code != NO_SERVER and error.retry_after_s is None:
        return None
    pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * (1 << attempt))
    return max(pause * (0.5 + chance / 2), error.retry_after_s or 0.0)
