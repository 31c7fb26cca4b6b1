"""The memory of this process: segments that the master lent, and what the heap need not keep."""

from __future__ import annotations

import ctypes
import gc
import threading
from typing import Dict

from serving.channel.messages import Lend
from serving.channel.segment import Segment


class Mappings:
    """Segments by number, shared by the slots; each slot is lent and forgets on its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._segments: Dict[int, Segment] = {}
        self._lent: Dict[int, int] = {}

    def lend(self, message: Lend, fd: int) -> None:
        """Map a segment, or count one more slot that was lent it."""
        with self._lock:
            self._lent[message.segment] = self._lent.get(message.segment, 0) + 1
            segment = Segment.attach(message.segment, message.size, fd, writable=message.writable)
            if message.segment in self._segments:
                segment.close()
            else:
                self._segments[message.segment] = segment

    def forget(self, segment_id: int) -> None:
        """Unmap a segment once every slot that was lent it has forgotten it."""
        with self._lock:
            self._lent[segment_id] -= 1
            if self._lent[segment_id] == 0:
                del self._lent[segment_id]
                self._segments.pop(segment_id).close()

    def get(self, segment_id: int) -> Segment:
        """Return a mapped segment."""
        return self._segments[segment_id]


def give_back_memory() -> None:
    """Return freed memory to the system: the allocator keeps it for another model of that size."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not in musl's libc
    if trim is not None:
        trim(0)
