"""Finds the segment that an array lies in, by its address: codecs need not know of segments.

Python 3.9 syntax.
"""

from __future__ import annotations

import bisect
from typing import Dict, List, Optional, Tuple

from serving.channel.segment import Segment


class Spans:
    """Knows where the segments of a process are mapped. One thread only."""

    def __init__(self) -> None:
        self._addresses: List[int] = []  # in order
        self._segments: Dict[int, Segment] = {}

    def add(self, segment: Segment) -> None:
        """Take a segment in."""
        bisect.insort(self._addresses, segment.address)
        self._segments[segment.address] = segment

    def remove(self, segment: Segment) -> None:
        """Forget a segment, which is about to be closed."""
        self._addresses.remove(segment.address)
        del self._segments[segment.address]

    def locate(self, address: int, nbytes: int) -> Optional[Tuple[Segment, int]]:
        """Return the segment that a span of memory lies in, and where; None for other memory."""
        index = bisect.bisect_right(self._addresses, address) - 1
        if index < 0:
            return None
        segment = self._segments[self._addresses[index]]
        offset = address - segment.address
        return (segment, offset) if offset + nbytes <= segment.size else None
