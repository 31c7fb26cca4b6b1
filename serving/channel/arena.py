"""The master's stock of segments: lent, given back, kept within a budget, never leaked."""

from __future__ import annotations

import errno
from collections import defaultdict
from collections.abc import Callable

from serving.channel.segment import Segment
from serving.channel.spans import Spans
from serving.channel.stock import Stock
from serving.errors import Overloaded

_SMALLEST = 16 * 1024

_OWN_SEGMENTS = 512
_OWN_SHARE = 1 / 8
"""While there are no more, and of the budget no more is used, each user has small ones of its own:
to work in one that another had before costs a small model as much as its run."""


def size_class(size: int) -> int:
    """Round a size up to its class: powers of two, with quarter steps above 1 MiB.

    Classes let a segment be used again for another shape; quarter steps keep the waste of
    large ones below 25 %.
    """
    if size <= _SMALLEST:
        return _SMALLEST
    power = 1 << (size - 1).bit_length()
    if power <= 1 << 20:
        return power
    step = power // 8
    return (size + step - 1) // step * step


class Arena:
    """Owns every segment. Used by the master's event loop only.

    ``on_close(segment_id)`` is called when a segment is about to be closed, so that workers can
    be told to unmap it.
    """

    def __init__(self, budget_bytes: int, on_close: Callable[[int], None] | None = None) -> None:
        self._budget = budget_bytes
        self._on_close = on_close
        self._free: dict[tuple[int, bool], Stock] = defaultdict(Stock)
        self._next_id = 1
        self._live: dict[int, Segment] = {}
        self._spans = Spans()
        self.total_bytes = 0
        self.free_bytes = 0

    @property
    def budget_bytes(self) -> int:
        """The most that all segments together may have."""
        return self._budget

    @property
    def used_bytes(self) -> int:
        """Bytes of the segments that somebody holds."""
        return self.total_bytes - self.free_bytes

    def get(self, segment_id: int) -> Segment:
        """Return a live segment by its number."""
        return self._live[segment_id]

    def locate(self, address: int, nbytes: int) -> tuple[Segment, int] | None:
        """Return the segment that a span of memory lies in, and where; None for other memory."""
        return self._spans.locate(address, nbytes)

    def take(self, size: int, *, writable_elsewhere: bool, user: int = 0) -> Segment:
        """Lend a segment of at least ``size`` bytes; raises Overloaded beyond the budget.

        What is larger than the whole budget is refused without a time to come back after.
        A ``user`` gets what it had before if it can; 0 are those who do not care.
        """
        size = size_class(size)
        stock = self._free.get((size, writable_elsewhere))
        found = None if stock is None else stock.take(user)
        if found is None and stock and not (user and self._has_room_for_own(size)):
            found = stock.take_latest()
        if found is not None:
            found.user = user
            self.free_bytes -= size
            return found
        if size > self._budget:
            raise Overloaded(
                "this alone takes more memory for tensors than the server has",
                code="memory_budget_full",
                expected=f"at most {self._budget >> 20} MiB",
                given=f"{size >> 10} KiB",
                fix="send less at once, or start the server with a larger --memory-mb",
            )
        if self.total_bytes + size > self._budget:
            self._trim(self.total_bytes + size - self._budget)
        if self.total_bytes + size > self._budget:
            raise Overloaded(
                "the server's memory for tensors is full",
                code="memory_budget_full",
                expected=f"at most {self._budget >> 20} MiB in use",
                given=f"{self.used_bytes >> 20} MiB in use and {size >> 10} KiB more wanted",
                fix="try again later, send less at once, or start with a larger --memory-mb",
                retry_after_s=1.0,
            )
        try:
            segment = Segment.create(self._next_id, size, writable_elsewhere=writable_elsewhere)
        except (MemoryError, OSError) as error:
            raise _no_means(error) from error
        self._next_id += 1
        segment.user = user
        self._live[segment.id] = segment
        self._spans.add(segment)
        self.total_bytes += size
        return segment

    def give(self, segment: Segment) -> None:
        """Take a segment back; nobody may look into it any more."""
        self._free[segment.size, segment.writable_elsewhere].give(segment)
        self.free_bytes += segment.size

    def trim(self) -> None:
        """Close every free segment: its memory returns to the operating system."""
        self._trim(self.free_bytes)

    def close(self) -> None:
        """Close everything; the last act of a server."""
        self._free.clear()
        for segment in list(self._live.values()):
            self._drop(segment)
        self.free_bytes = 0

    def _has_room_for_own(self, size: int) -> bool:
        return (
            size == _SMALLEST
            and len(self._live) < _OWN_SEGMENTS
            and self.total_bytes + size <= self._budget * _OWN_SHARE
        )

    def _trim(self, wanted: int) -> None:
        for _, stock in sorted(self._free.items(), key=lambda item: item[0], reverse=True):
            while stock and wanted > 0:
                segment = stock.take_latest()
                self.free_bytes -= segment.size
                wanted -= segment.size
                self._drop(segment)

    def _drop(self, segment: Segment) -> None:
        del self._live[segment.id]
        self._spans.remove(segment)
        self.total_bytes -= segment.size
        if self._on_close is not None:
            self._on_close(segment.id)
        segment.close()


def _no_means(error: MemoryError | OSError) -> Overloaded:
    """Return what requests are told when the system does not give a segment."""
    if getattr(error, "errno", 0) in (errno.EMFILE, errno.ENFILE):
        return Overloaded(
            "the server may open no more files, which memory for tensors takes too",
            code="memory_budget_full",
            fix="try again later, or raise the limit (ulimit -n) for whoever starts the server",
            retry_after_s=1.0,
        )
    return Overloaded(
        "the machine has no memory left for tensors", code="memory_budget_full", retry_after_s=1.0
    )
