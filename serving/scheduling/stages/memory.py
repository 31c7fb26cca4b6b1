"""The shared memory of runs: the packet that goes out, and what the worker may write to."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from serving.channel import packet
from serving.channel.arena import Arena
from serving.channel.messages import More
from serving.channel.segment import Segment
from serving.errors import InternalError, Overloaded, ServingError
from serving.scheduling.stages.flight import StageFlight
from serving.scheduling.stages.room import Room
from serving.tensor import Tensor

_log = logging.getLogger("serving.stages")


class RunMemory:
    """Takes segments for runs and gives them back. Event loop only."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena

    def packed(self, values: Sequence[tuple[Tensor, ...]]) -> Segment:
        """Copy values into a packet. Raises Overloaded, or InternalError for what is no value."""
        segment: Segment | None = None
        try:
            segment = self._arena.take(packet.size_of(values), writable_elsewhere=False)
            packet.write(segment.bytes, values)
        except ServingError:
            raise
        except Exception:
            _log.exception("values for a function could not be written")
            if segment is not None:
                self._arena.give(segment)
            raise InternalError("the server failed on this request; its log says more") from None
        return segment

    def output(self, room: Room) -> Segment | None:
        """Lend in advance what the last such run needed; the worker asks if it is too little."""
        try:
            return self._arena.take(max(1, room.last_output_bytes), writable_elsewhere=True)
        except Overloaded:
            return None

    def lend_more(self, flight: StageFlight, more: More) -> None:
        """Answer a worker that asked for a larger segment, in place of the one that it had."""
        try:
            segment = self._arena.take(more.nbytes, writable_elsewhere=True)
        except Overloaded as error:
            flight.denied = error
            flight.slot.deny(more.run, error.code, str(error))
            return
        if flight.output is not None:
            self._arena.give(flight.output)
        flight.output = segment
        flight.slot.grant(more.run, segment)

    def let_go(self, flight: StageFlight) -> None:
        """Take back a run's memory, which no worker looks at any more."""
        self._arena.give(flight.input)
        if flight.output is not None:
            self._arena.give(flight.output)
            flight.output = None
