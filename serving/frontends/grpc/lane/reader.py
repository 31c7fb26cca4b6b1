"""Cuts what a client sends into frames and hands each to whom it concerns.

Source: RFC 9113. What ends the connection, and what costs the server more than its client, is
decided here; the calls themselves are in ``streams`` and ``outgoing``.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from serving.frontends.grpc.lane import frames, settings
from serving.frontends.grpc.lane.allowance import Allowance
from serving.frontends.grpc.lane.faults import Code, ConnectionFault, StreamFault
from serving.frontends.grpc.lane.frames import HEAD, HEAD_BYTES, MAX_FRAME, STREAM_BITS, Buffer
from serving.frontends.grpc.lane.outgoing import Outgoing
from serving.frontends.grpc.lane.streams import Streams

TURN_S = 0.001
"""How long what one client has sent may keep the others waiting; the rest of it comes next turn."""

TURN_SPENT = 8
"""Frames a turn that cost an allowance: whoever sends them by the thousand is no good client."""

BLOCK_BYTES, BLOCK_FRAMES = 32 << 10, 16
"""The largest header block, as it comes, and the CONTINUATION frames it may be cut into."""

ANSWERED = (1000, 100.0)
"""PING, SETTINGS and such, which we must answer: at once, and a second."""

EMPTY = (1000, 100.0)
"""Frames that say nothing: empty DATA, PRIORITY, unknown kinds."""

RESETS = (1000, 200.0)
"""Calls begun and cut short: each cost work that nobody will look at."""

DRAINED = b"drained?"
"""What our PING says behind a GOAWAY: its echo shows that the client has seen that."""

_FRAME_SENT_BYTES = 1 << 14


class Reader:
    """Owned by a connection, which it tells that the client knows of a drain, or is leaving.

    ``tired`` says that enough was read for one turn, ``progress`` counts frames.
    """

    def __init__(
        self,
        streams: Streams,
        out: Outgoing,
        on_drained: Callable[[], None],
        on_leaving: Callable[[], None],
    ) -> None:
        self._streams = streams
        self._out = out
        self._on_drained = on_drained
        self._on_leaving = on_leaving
        self.settled = False
        self.tired = False
        self.progress = 0
        self._over = self._stopped = False
        self._turn_ends = 0.0
        self._spent = 0
        self._fickle = False  # the client has reset a call: it may have behind the next one too
        self._block: bytearray | None = None
        self._block_of = (0, 0)  # stream and flags of the HEADERS that the open block began with
        self._block_frames = 0
        self._window = settings.CONNECTION_WINDOW
        clock = time.monotonic
        served = functools.partial(_served, streams, out)
        self._answered = Allowance(*ANSWERED, clock, served)
        self._empty = Allowance(*EMPTY, clock)
        self._resets = Allowance(*RESETS, clock, served)

    @property
    def within_block(self) -> bool:
        """Whether a header block has begun and not ended."""
        return self._block is not None

    def end(self) -> None:
        """Read nothing more."""
        self._over = self._stopped = True

    def read(self, data: Buffer, at: int) -> int:
        """Take whole frames of ``data`` from ``at``, for a turn; return where the rest begins.

        ``data`` may be overwritten afterwards. Raises ConnectionFault.
        """
        self.tired, self._stopped = False, self._over
        self._turn_ends = time.monotonic() + TURN_S
        size = len(data)
        while size - at >= HEAD_BYTES and not self._stopped:
            high, low, kind, flags, stream_id = HEAD.unpack_from(data, at)
            length = high << 8 | low
            if length > MAX_FRAME:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            start = at + HEAD_BYTES
            end = start + length
            if end > size:
                break
            if kind == frames.HEADERS and flags == frames.END_HEADERS:
                behind = self._whole_call(stream_id, data, start, end)
                if behind:
                    at = behind
                    if self.progress & 7 < 2 and time.monotonic() > self._turn_ends:
                        self._tire()
                    continue
            if not self.settled and kind != frames.SETTINGS:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            stream_id &= STREAM_BITS
            if self._block is not None and kind != frames.CONTINUATION:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block is interrupted")
            self.progress += 1
            try:
                if kind == frames.DATA:
                    self._on_data(stream_id, flags, data, start, end)
                elif kind == frames.HEADERS:
                    self._on_headers(stream_id, flags, data, start, end)
                else:
                    take = _KINDS.get(kind, Reader._on_unknown)
                    take(self, stream_id, flags, bytes(data[start:end]))
            except StreamFault as fault:
                self._spend(self._resets, "calls that are reset")
                self._streams.reset(fault.stream_id, fault.code)
            at = end
            if not self.progress & 7 and time.monotonic() > self._turn_ends:
                self._tire()
        return at

    def _whole_call(self, stream_id: int, data: Buffer, start: int, end: int) -> int:
        """Take a call of two frames, as most are, at once; return where the next frame begins.

        ``start`` and ``end`` are those of its header block. Returns 0, having done nothing, for
        all that must go frame by frame.
        """
        first = end + HEAD_BYTES
        plain = self.settled and self._block is None and not self._fickle
        if not plain or first > len(data) or type(data) is not bytes:
            return 0
        high, low, kind, flags, number = HEAD.unpack_from(data, end)
        length: int = high << 8 | low
        last = first + length
        if kind != frames.DATA or flags != frames.END_STREAM or number != stream_id:
            return 0
        if last > len(data) or length > MAX_FRAME:
            return 0
        if not self._streams.whole_call(stream_id, data[start:end], data, (first, last)):
            return 0
        self.progress += 2
        self._take_from_window(length)
        return last

    def _take_from_window(self, length: int) -> None:
        """Count what came against the connection's window, and widen it again in time."""
        self._window -= length
        if self._window < settings.CONNECTION_WINDOW // 2:
            credit = settings.CONNECTION_WINDOW - self._window
            self._out.control(frames.window_update(0, credit))
            self._window += credit

    def _tire(self) -> None:
        """Let the others have a turn before the rest is read."""
        self.tired = self._stopped = True

    def _on_data(self, stream_id: int, flags: int, data: Buffer, start: int, end: int) -> None:
        length, whole = end - start, end
        self._take_from_window(length)
        if flags & frames.PADDED:
            start, end = frames.trimmed(frames.DATA, flags, data, start, end)
        ended = bool(flags & frames.END_STREAM)
        if start == end and not ended:
            self._spend(self._empty, "empty frames")
        if self._fickle and ended and _is_reset(stream_id, data, whole):
            ended = False  # to begin the call and give it up would cost many times as much
        self._streams.data(stream_id, ended, data, (start, end, length))

    def _on_headers(self, stream_id: int, flags: int, data: Buffer, start: int, end: int) -> None:
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & (frames.PADDED | frames.WITH_PRIORITY):
            start, end = frames.trimmed(frames.HEADERS, flags, data, start, end)
        if flags & frames.END_HEADERS:
            block = data[start:end]
            if not isinstance(block, bytes):
                block = block.tobytes()
            self._streams.headers(stream_id, bool(flags & frames.END_STREAM), block)
            return
        self._block = bytearray(data[start:end])
        self._block_of = stream_id, flags
        self._block_frames = 0

    def _on_continuation(self, stream_id: int, flags: int, payload: bytes) -> None:
        block = self._block
        if block is None or stream_id != self._block_of[0]:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        block += payload
        self._block_frames += 1
        if len(block) > BLOCK_BYTES or self._block_frames > BLOCK_FRAMES:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a header block without end")
        if flags & frames.END_HEADERS:
            self._block = None
            ended = bool(self._block_of[1] & frames.END_STREAM)
            self._streams.headers(stream_id, ended, bytes(block))

    def _on_settings(self, stream_id: int, flags: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "an acknowledgement with content")
            if not self.settled:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._spend(self._answered, "SETTINGS frames")
            return
        self.settled = True
        self._spend(self._answered, "SETTINGS frames")
        change = self._out.peer.apply(payload)
        self._out.control(settings.ACKNOWLEDGED)
        self._streams.widen_all(change)

    def _on_ping(self, stream_id: int, flags: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a PING that has not 8 bytes")
        self._spend(self._answered, "PING frames")
        if not flags & frames.ACK:
            self._out.control(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif payload == DRAINED:
            self._on_drained()

    def _on_rst_stream(self, stream_id: int, _flags: int, payload: bytes) -> None:
        frames.number(payload)
        self._check_known(stream_id)
        if self._streams.reset_by_client(stream_id):
            self._fickle = True
            self._spend(self._resets, "calls that are reset")

    def _on_window_update(self, stream_id: int, _flags: int, payload: bytes) -> None:
        size = frames.number(payload) & STREAM_BITS
        if stream_id:
            self._check_known(stream_id)
            self._streams.widen(stream_id, size)
        elif not size:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a window widened by 0")
        elif not self._out.widen(size):
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window over 2^31-1")

    def _on_priority(self, stream_id: int, _flags: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            if stream_id > self._streams.last_id:  # there is nothing yet that could be reset
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a PRIORITY that has not 5 bytes")
            raise StreamFault(stream_id, Code.FRAME_SIZE_ERROR)
        self._spend(self._empty, "frames of no use")

    def _on_push_promise(self, _stream_id: int, _flags: int, _payload: bytes) -> None:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _on_goaway(self, stream_id: int, _flags: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a GOAWAY of less than 8 bytes")
        self._on_leaving()

    def _on_unknown(self, _stream_id: int, _flags: int, _payload: bytes) -> None:
        self._spend(self._empty, "frames of no use")

    def _check_known(self, stream_id: int) -> None:
        if not stream_id or stream_id > self._streams.last_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame on a stream that was never opened")

    def _spend(self, allowance: Allowance, what: str) -> None:
        if not allowance.take():
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"too many {what}")
        self._spent += 1
        if not self._spent % TURN_SPENT:
            self._tire()


# By functions, not by methods bound to a reader, which would refer to itself then.
_KINDS: dict[int, Callable[[Reader, int, int, bytes], None]] = {
    frames.PRIORITY: Reader._on_priority,
    frames.RST_STREAM: Reader._on_rst_stream,
    frames.SETTINGS: Reader._on_settings,
    frames.PUSH_PROMISE: Reader._on_push_promise,
    frames.PING: Reader._on_ping,
    frames.GOAWAY: Reader._on_goaway,
    frames.WINDOW_UPDATE: Reader._on_window_update,
    frames.CONTINUATION: Reader._on_continuation,
}


def _served(streams: Streams, out: Outgoing) -> float:
    """Return how much was done for a client: calls, and frames full of answers."""
    return streams.completed + out.sent_bytes / _FRAME_SENT_BYTES


def _is_reset(stream_id: int, data: Buffer, at: int) -> bool:
    """Return whether the frame at ``at`` is there and resets the stream."""
    if len(data) - at < HEAD_BYTES + 4 or data[at + 3] != frames.RST_STREAM:
        return False
    return bytes(data[at : at + HEAD_BYTES]) == frames.head(4, frames.RST_STREAM, 0, stream_id)
