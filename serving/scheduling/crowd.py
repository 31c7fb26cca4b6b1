"""All requests that wait, whatever for: bounded together, above each line's own bounds."""

from __future__ import annotations

from dataclasses import dataclass

from serving.errors import Overloaded
from serving.scheduling.drain import Drain


@dataclass(frozen=True)
class CrowdLimits:
    """Most requests, and most bytes of their tensors, that may wait in all lines together."""

    requests: int = 10_000
    nbytes: int = 1 << 30


class Crowd:
    """Counts who waits in the lines of one server. Event loop only."""

    def __init__(self, limits: CrowdLimits) -> None:
        self.limits = limits
        self.waiting = 0
        self.waiting_bytes = 0

    def entered(self, nbytes: int, requests: int = 1) -> None:
        """So many more wait."""
        self.waiting += requests
        self.waiting_bytes += nbytes

    def left(self, nbytes: int, requests: int = 1) -> None:
        """So many fewer wait."""
        self.waiting -= requests
        self.waiting_bytes -= nbytes

    def has_room(self, nbytes: int, requests: int) -> bool:
        """Return whether ``room`` would let in so many requests, one after the other."""
        limits = self.limits
        return (
            self.waiting + requests <= limits.requests
            and self.waiting_bytes + nbytes <= limits.nbytes
        )

    def room(self, nbytes: int, drain: Drain, rows_ahead: int) -> None:
        """Raise Overloaded when the server holds all the waiting requests that it may.

        ``drain`` and ``rows_ahead`` are those of the line that the request is for. A request that
        alone is larger than the bound is let in when nothing else waits: the memory for tensors
        has the last word on it.
        """
        limits = self.limits
        if self.waiting >= limits.requests:
            raise Overloaded(
                "the server has a full queue",
                code="server_queue_full",
                expected=f"at most {limits.requests} requests waiting for all servables",
                given=f"{self.waiting} waiting",
                fix="try again later, or start with a larger --max-queue-size or more --workers",
                retry_after_s=drain.retry_after_s(rows_ahead),
                limit=limits.requests,
            )
        if self.waiting and self.waiting_bytes + nbytes > limits.nbytes:
            raise Overloaded(
                "the server has a full queue",
                code="server_queue_full",
                expected=f"at most {limits.nbytes >> 20} MiB waiting for all servables",
                given=f"{self.waiting_bytes >> 20} MiB waiting and {nbytes >> 10} KiB more",
                fix="try again later, or start with a larger --max-queue-mb or more --workers",
                retry_after_s=drain.retry_after_s(rows_ahead),
            )
