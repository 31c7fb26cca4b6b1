"""Segments that the master has lent to this process: to receive into, and to read answers from."""

from __future__ import annotations

import collections
import time
import weakref
from collections.abc import Callable

import numpy as np

from serving.channel.arena import size_class
from serving.channel.segment import Segment
from serving.channel.spans import Spans
from serving.errors import ServingError
from serving.gateway.messages import Back, Lend, Message, Want

_KEPT_BYTES = 64 << 20
_KEPT_S = 5.0
_MOST_FORESEEN = 4
_RECEIVING_BYTES = 128 << 20
"""What bodies on their way may hold: those of slow clients are not to take all that there is."""

Taken = Callable[[Segment | ServingError], None]


class Trays:
    """Segments for the inputs of large requests, one each; used again and again.

    What is idle is kept within 64 MiB and for 5 s, and then given back. Event loop only, but for
    the end of what ``receive`` returned, which may be on any thread.
    """

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._free: dict[int, list[tuple[Segment, float]]] = collections.defaultdict(list)
        self._free_bytes = self._receiving_bytes = 0
        self._waiting: collections.deque[Taken] = collections.deque()
        self._foreseen: collections.Counter[int] = collections.Counter()
        self._returned: collections.deque[Segment] = collections.deque()
        self._spans = Spans()

    def receive(self, nbytes: int) -> memoryview:
        """Return room to receive a body into; of this process where no segment is free.

        The segment is free again once nobody holds the room, or a tensor in it, any more.
        """
        segment = None
        if self._receiving_bytes + size_class(nbytes) <= _RECEIVING_BYTES:
            segment = self.take(nbytes)
            if segment is None:
                self._foresee(size_class(nbytes))
        if segment is None:
            return np.empty(nbytes, np.uint8).data
        self._receiving_bytes += segment.size
        room = segment.bytes[:nbytes]
        weakref.finalize(room, self._returned.append, segment).atexit = False
        return room.data

    def locate(self, address: int, nbytes: int) -> tuple[Segment, int] | None:
        """Return the segment that a span of memory lies in, and where; None for other memory."""
        return self._spans.locate(address, nbytes)

    def take(self, nbytes: int) -> Segment | None:
        """Return a free segment of at least ``nbytes`` bytes, None if there is none."""
        self._collect()
        stock = self._free.get(size_class(nbytes))
        if not stock:
            return None
        segment, _ = stock.pop()
        self._free_bytes -= segment.size
        return segment

    def ask(self, nbytes: int, taken: Taken) -> None:
        """Ask the master for one; ``taken`` gets it, or the error, and must not raise."""
        self._waiting.append(taken)
        self._send(Want(size_class(nbytes)))

    def give(self, segment: Segment) -> None:
        """Take a segment back: the master does not read it any more."""
        if self._free_bytes + segment.size > _KEPT_BYTES:
            self._return(segment)
            return
        self._free[segment.size].append((segment, time.monotonic()))
        self._free_bytes += segment.size

    def lent(self, message: Lend, fd: int) -> None:
        """Hand a segment to whoever has waited longest."""
        segment = Segment.attach(message.segment, message.size, fd, writable=True)
        self._spans.add(segment)
        self._waiting.popleft()(segment)

    def denied(self, error: ServingError) -> None:
        """Tell whoever has waited longest that there is none."""
        self._waiting.popleft()(error)

    def sweep(self, now: float) -> None:
        """Give back what has not been used for a while."""
        self._collect()
        for stock in self._free.values():
            # The latest used is taken first, so the oldest stand in front.
            while stock and now - stock[0][1] > _KEPT_S:
                segment, _ = stock.pop(0)
                self._free_bytes -= segment.size
                self._return(segment)

    def _collect(self) -> None:
        """Take back what nobody holds any more of that which was received into."""
        while self._returned:
            segment = self._returned.popleft()
            self._receiving_bytes -= segment.size
            self.give(segment)

    def _foresee(self, size: int) -> None:
        """Ask for a segment for the next body of this size, unless enough are on their way."""
        if self._foreseen[size] >= _MOST_FORESEEN:
            return
        self._foreseen[size] += 1

        def taken(found: Segment | ServingError) -> None:
            self._foreseen[size] -= 1
            if isinstance(found, Segment):
                self.give(found)

        self.ask(size, taken)

    def _return(self, segment: Segment) -> None:
        self._spans.remove(segment)
        segment.close()
        self._send(Back(segment.id))


class Answers:
    """Segments that answers lie in, mapped once; the master says when one is closed."""

    def __init__(self) -> None:
        self._known: dict[int, Segment] = {}

    def lent(self, message: Lend, fd: int) -> None:
        """Map a segment, for reading."""
        segment = Segment.attach(message.segment, message.size, fd, writable=False)
        self._known[message.segment] = segment

    def get(self, segment: int) -> Segment:
        """Return a segment; raises LookupError for one that was never lent."""
        return self._known[segment]

    def forget(self, segment: int) -> None:
        """Unmap a segment: no answer in it is held."""
        known = self._known.pop(segment, None)
        if known is not None:
            known.close()
