"""The sending side of a connection: flow control, one write for each turn of the event loop.

An answer that fits into the windows goes out at once. What does not fit, or comes while the
client does not read, waits in its stream's outbox; streams that wait take turns, a frame each.
"""

from __future__ import annotations

import asyncio
import struct
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from serving.frontends.ended import ENDED
from serving.frontends.grpc.lane import answers
from serving.frontends.grpc.lane.budget import Budget
from serving.frontends.grpc.lane.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_WINDOW,
    head,
    header_frames,
)
from serving.frontends.grpc.lane.messages import PREFIX_BYTES, BadMessage
from serving.frontends.grpc.lane.settings import DEFAULT_WINDOW, PeerSettings
from serving.frontends.grpc.lane.stream import Stream
from serving.frontends.grpc.status_code import StatusCode

WRITE_BYTES = 256 << 10
"""Written at once at most, and what the transport holds before it asks us to pause."""

BACKLOG_BYTES = 4 << 20
"""Answers waiting for a client beyond this keep its further calls from being begun."""

_JOINED_BYTES = 1 << 16

# HEADERS with the block that opens an answer, the head of DATA, the prefix of a message.
_BEGIN = struct.Struct(f">HBBBL{len(answers.BEGIN)}sHBBBLBL")
_END = struct.Struct(f">HBBBL{len(answers.OK)}s")


class Outgoing:
    """Owned by a connection, which it tells of streams that have sent all (``on_sent``).

    ``unread`` bounds what waits in the outboxes of all connections together.
    """

    __slots__ = (
        "_due", "_finished", "_frames", "_loop", "_on_sent", "_pending", "_table_told",
        "_transport", "_unread", "_waiting", "_widened", "backlog", "paused", "peer", "window",
    )  # fmt: skip

    def __init__(
        self, transport: asyncio.Transport, unread: Budget, on_sent: Callable[[Stream], None]
    ) -> None:
        transport.set_write_buffer_limits(high=WRITE_BYTES)
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._unread = unread
        self._on_sent = on_sent
        self._frames: list[bytes | memoryview] = []
        self._pending = 0
        self._due = self._finished = False
        # In the order of their turns. Taking the first of a dict that others were taken from before
        # costs what was taken; this does not.
        self._waiting: OrderedDict[int, Stream] = OrderedDict()
        self._table_told = False
        self.peer = PeerSettings()
        self.window = self._widened = DEFAULT_WINDOW
        self.backlog = 0
        self.paused = False

    @property
    def peer_name(self) -> object:
        """The address that the socket has of the client; None once it has gone."""
        return self._transport.get_extra_info("peername")

    @property
    def sent_bytes(self) -> int:
        """All bytes of answers that were sent so far."""
        return self._widened - self.window

    # -- what is to be sent ----------------------------------------------------------------------

    def control(self, data: bytes) -> None:
        """Send a frame of the connection, past whatever waits."""
        self._put(data)

    def answer(self, stream: Stream, message: bytes) -> None:
        """Send the one message of a call that went well, and its end, as soon as that can be."""
        try:
            self.send(stream, message)
        except BadMessage as full:
            self.end(stream, answers.trailers_only(full.code, full.details, ()))
        else:
            self.end(stream, answers.OK)

    def answer_now(self, stream: Stream, message: bytes) -> bool:
        """Do what ``answer`` does, if all of it can go at once; the stream is done with then.

        False, having done nothing, where it must wait.
        """
        size = len(message)
        length = size + PREFIX_BYTES
        if (
            self.paused
            or length > self.window
            or length > stream.window
            or length > self.peer.max_frame
            or stream.opened
            or not self._table_told
        ):
            return False
        self.window -= length
        stream.ending = True
        block, number = answers.BEGIN, stream.id
        begin = _BEGIN.pack(
            0, len(block), HEADERS, END_HEADERS, number, block,
            length >> 8, length & 0xFF, DATA, 0, number, 0, size,
        )  # fmt: skip
        end = _END.pack(0, len(answers.OK), HEADERS, END_HEADERS | END_STREAM, number, answers.OK)
        self._frames += (begin, message, end)
        self._pending += size
        if not self._due:
            self._due = True
            self._loop.call_soon(self.flush)
        return True

    def send(self, stream: Stream, message: bytes) -> None:
        """Send a message of a call that goes on; raises BadMessage where nothing more may wait."""
        size = PREFIX_BYTES + len(message)
        if not self._unread.take(size):
            text = "too many answers wait for clients that do not read them"
            raise BadMessage(StatusCode.RESOURCE_EXHAUSTED, text)
        self.backlog += size
        outbox = self._outbox(stream)
        if not stream.opened:
            stream.opened = True
            outbox.append(answers.BEGIN)
        prefix = len(message).to_bytes(PREFIX_BYTES)
        if len(message) <= _JOINED_BYTES:
            outbox.append(memoryview(prefix + message))
        else:
            outbox += (memoryview(prefix), memoryview(message))
        self._wait(stream)

    def end(self, stream: Stream, trailers: bytes) -> None:
        """End a call: ``trailers`` is the last header block after messages, the only one before."""
        self._outbox(stream).append(trailers)
        stream.opened = stream.ending = True
        self._wait(stream)

    def forget(self, stream: Stream) -> None:
        """Drop what a stream still had to send."""
        self._waiting.pop(stream.id, None)
        if stream.outbox:
            self._gone(sum([len(p) for p in stream.outbox if isinstance(p, memoryview)]))
            if stream.outbox[0] is answers.BEGIN:
                stream.opened = False
            stream.outbox = None

    # -- what lets it go -------------------------------------------------------------------------

    def widen_all(self, streams: Iterable[Stream], size: int) -> bool:
        """Add to the window of every stream, or take away; False when one would be too wide."""
        for stream in streams:
            stream.window += size
            if stream.window > MAX_WINDOW:
                return False
            if stream.outbox and stream.window > 0:
                self._waiting[stream.id] = stream
        self.pump()
        return True

    def widen(self, size: int) -> bool:
        """Add to the connection's window; False when it would be wider than may be."""
        self.window += size
        self._widened += size
        if self.window > MAX_WINDOW:
            return False
        self.pump()
        return True

    def widen_stream(self, stream: Stream, size: int) -> bool:
        """Add to a stream's window; False when it would be wider than may be."""
        stream.window += size
        if stream.window > MAX_WINDOW:
            return False
        if stream.outbox and stream.window > 0:
            self._wait(stream)
        return True

    def pause(self) -> None:
        """Hold answers back: the client does not read."""
        self.paused = True

    def resume(self) -> None:
        """Go on sending."""
        self.paused = False
        if self.window <= 0:
            for stream in list(self._waiting.values()):
                if stream.id in self._waiting:  # another's end may have ended it
                    self._send_some(stream)  # header blocks need no window
        self.pump()

    def pump(self) -> None:
        """Send what waits, as far as windows and the client's reading allow; streams in turn.

        A window that is widened byte by byte must not cost a look at every stream each time.
        """
        waiting = self._waiting
        while waiting and self.window > 0 and not self.paused:
            stream = next(iter(waiting.values()))
            waiting.move_to_end(stream.id)
            self._send_some(stream)
            if self._pending > WRITE_BYTES:
                self.flush()

    def flush(self) -> None:
        """Write what was put together."""
        self._due = False
        frames, self._frames = self._frames, []
        large, self._pending = self._pending > WRITE_BYTES, 0
        if not frames or self._finished or self._transport.is_closing():
            return
        if large:
            self._transport.writelines(frames)
        else:
            self._transport.write(b"".join(frames))

    def finish(self) -> None:
        """Write what was put together, and nothing after it."""
        self.flush()
        self._finished = True

    def let_go(self) -> None:
        """Forget the transport, which has ended; calls that run still may ask for it."""
        self._transport = ENDED

    # -- how it goes -----------------------------------------------------------------------------

    def _gone(self, size: int) -> None:
        """Count bytes that wait no longer."""
        self.backlog -= size
        self._unread.give_back(size)

    def _put(self, data: bytes | memoryview) -> None:
        self._frames.append(data)
        self._pending += len(data)
        if not self._due:
            self._due = True
            self._loop.call_soon(self.flush)

    def _outbox(self, stream: Stream) -> deque[bytes | memoryview]:
        if stream.outbox is None:
            stream.outbox = deque()
        return stream.outbox

    def _wait(self, stream: Stream) -> None:
        """Send what a stream has now, or let it wait for its turn."""
        self._waiting[stream.id] = stream
        if self.window > 0:
            self.pump()
        elif not self.paused:
            self._send_some(stream)  # header blocks need no window

    def _send_some(self, stream: Stream) -> None:
        """Send frames of a stream up to one of data; let it go when it has no more."""
        outbox = stream.outbox
        while outbox:
            piece = outbox[0]
            if isinstance(piece, memoryview):
                self._send_data(stream, outbox, piece)
                break
            outbox.popleft()
            self._send_block(stream, piece, last=stream.ending and not outbox)
        if not outbox:
            self._waiting.pop(stream.id, None)
            self._on_sent(stream)
        elif stream.window <= 0 and isinstance(outbox[0], memoryview):
            self._waiting.pop(stream.id, None)

    def _send_block(self, stream: Stream, block: bytes, *, last: bool) -> None:
        stream.sent += 1
        if not self._table_told:
            self._table_told = True
            block = answers.NO_TABLE + block
        self._put(header_frames(block, last, stream.id, self.peer.max_frame))

    def _send_data(
        self, stream: Stream, outbox: deque[bytes | memoryview], piece: memoryview
    ) -> None:
        """Send a frame of data, or as many as are written at once where no other stream waits."""
        longest = self.peer.max_frame
        most = longest if len(self._waiting) > 1 else max(longest, WRITE_BYTES)
        size = min(len(piece), most, self.window, stream.window)
        if size <= 0:
            return
        self.window -= size
        stream.window -= size
        stream.sent += size
        self._gone(size)
        whole = head(longest, DATA, 0, stream.id) if size > longest else b""
        at = 0
        while size - at > longest:
            self._frames += (whole, piece[at : at + longest])
            at += longest
        self._frames.append(head(size - at, DATA, 0, stream.id))
        self._pending += at
        self._put(piece[at:size])
        if size == len(piece):
            outbox.popleft()
        else:
            outbox[0] = piece[size:]
