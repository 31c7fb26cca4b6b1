"""What the streams of a connection hold of requests: their inboxes, within budget and windows."""

from __future__ import annotations

from serving.frontends.grpc.lane import frames
from serving.frontends.grpc.lane.budget import Budget
from serving.frontends.grpc.lane.messages import BadMessage, Inbox, Packed
from serving.frontends.grpc.lane.outgoing import Outgoing
from serving.frontends.grpc.lane.settings import STREAM_WINDOW
from serving.frontends.grpc.lane.stream import Stream
from serving.frontends.grpc.status_code import StatusCode


class Intake:
    """Owned by ``Streams``; ``limit_bytes`` bounds one message, ``budget`` all of the server."""

    def __init__(self, limit_bytes: int, budget: Budget, out: Outgoing) -> None:
        self._limit_bytes = limit_bytes
        self._budget = budget
        self._out = out

    def feed(self, stream: Stream, piece: bytes | memoryview, length: int) -> Inbox:
        """Put a piece of a message to the rest of it; raises BadMessage.

        ``length`` is what the piece has taken of the stream's window.
        """
        inbox = stream.inbox
        if inbox is None:
            inbox = stream.inbox = Inbox(self._limit_bytes)
        inbox.feed(piece)
        if not self._account(stream, inbox.held):
            raise _full()
        stream.uncredited += length
        if not inbox.ready:
            self._credit(stream)
        return inbox

    def put(self, stream: Stream, inbox: Inbox, piece: bytes | memoryview, length: int) -> None:
        """Put a piece into a large message that it does not end; raises BadMessage."""
        size = len(piece)
        if not self._budget.take(size):
            raise _full()
        stream.counted += size
        inbox.put(piece)
        stream.uncredited += length
        if not inbox.ready:
            self._credit(stream)

    def take(self, stream: Stream) -> Packed:
        """Return the next message of a stream, and give the client room for more."""
        assert stream.inbox is not None
        message = stream.inbox.take()
        self._account(stream, stream.inbox.held)
        if not stream.inbox.ready:
            self._credit(stream)
        return message

    def drop(self, stream: Stream) -> None:
        """Hold nothing for a stream any more; what a task still takes of it is not counted."""
        if stream.counted:
            self._account(stream, 0)
        stream.inbox = None

    def _account(self, stream: Stream, held: int) -> bool:
        """Keep the budget in step with what a stream holds; False when it is spent."""
        if held > stream.counted:
            if not self._budget.take(held - stream.counted):
                return False
        else:
            self._budget.give_back(stream.counted - held)
        stream.counted = held
        return True

    def _credit(self, stream: Stream) -> None:
        """Let the client send on, once half of its window is used."""
        if stream.their_window < STREAM_WINDOW // 2 and not stream.heard_all:
            self._out.control(frames.window_update(stream.id, stream.uncredited))
            stream.their_window += stream.uncredited
            stream.uncredited = 0


def _full() -> BadMessage:
    text = "too many large requests are being received at once"
    return BadMessage(StatusCode.RESOURCE_EXHAUSTED, text)
