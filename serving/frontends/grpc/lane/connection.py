"""One HTTP/2 connection: cuts what comes into frames and hands each to whom it concerns.

Source: RFC 9113. What ends the connection, and what costs the server more than its client, is
decided here; the calls themselves are in ``streams`` and ``outgoing``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from serving.frontends.grpc.lane import frames, settings
from serving.frontends.grpc.lane.allowance import Allowance
from serving.frontends.grpc.lane.faults import Code, ConnectionFault, StreamFault
from serving.frontends.grpc.lane.frames import HEAD, HEAD_BYTES, MAX_FRAME, PREFACE, STREAM_BITS
from serving.frontends.grpc.lane.outgoing import Outgoing
from serving.frontends.grpc.lane.shared import Shared
from serving.frontends.grpc.lane.stream import Stream
from serving.frontends.grpc.lane.streams import Streams
from serving.frontends.grpc.status_code import StatusCode

OPENING_TIMEOUT_S = 15.0
"""How long a client may take for its preface and SETTINGS, and for a block of headers."""

STALL_TIMEOUT_S = 60.0
"""How long a client may take nothing of what is written, or leave a frame unfinished."""

TURN_S = 0.002
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

_FRAME_SENT_BYTES = 1 << 14

_log = logging.getLogger("serving.frontends.grpc")

_DRAINED = b"drained?"
_NOT_HTTP2 = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 60\r\n"
    b"connection: close\r\n\r\nThis port speaks gRPC over HTTP/2; REST is on another port.\n"
)


class Connection(asyncio.Protocol):
    """Made by the server for each client; lives on the event loop."""

    def __init__(
        self,
        shared: Shared,
        on_made: Callable[[Connection, asyncio.BaseTransport], None],
        on_lost: Callable[[Connection], None],
    ) -> None:
        self._shared = shared
        self._on_made = on_made
        self._on_lost = on_lost
        self._rest = b""
        self._held = False  # what came waits for the next turn in ``_rest``
        self._turn_ends = 0.0
        self._spent = 0
        self._greeted = self._settled = False
        self._draining = self._closing = self._over = False
        self._block: bytearray | None = None
        self._block_of = (0, 0)  # stream and flags of the HEADERS that the open block began with
        self._block_frames = 0
        self._window = settings.CONNECTION_WINDOW
        self._progress = self._progress_seen = 0
        self._stalled_at = time.monotonic()
        clock = time.monotonic
        self._answered = Allowance(*ANSWERED, clock, self._served)
        self._empty = Allowance(*EMPTY, clock)
        self._resets = Allowance(*RESETS, clock, self._served)
        self._kinds: dict[int, Callable[[int, int, bytes], None]] = {
            frames.PRIORITY: self._on_priority,
            frames.RST_STREAM: self._on_rst_stream,
            frames.SETTINGS: self._on_settings,
            frames.PUSH_PROMISE: self._on_push_promise,
            frames.PING: self._on_ping,
            frames.GOAWAY: self._on_goaway,
            frames.WINDOW_UPDATE: self._on_window_update,
            frames.CONTINUATION: self._on_continuation,
        }

    # -- what asyncio calls ----------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Wait for the client's greeting; with TLS only for one that agreed to HTTP/2."""
        self._transport = transport
        self._out = Outgoing(transport, self._shared.unread, self._on_sent)
        self._streams = Streams(self._shared, self._out, self._close_if_done)
        self._on_made(self, transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self._over = True
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Take what came; the rest of an unfinished frame waits for more."""
        if self._over:
            return
        if self._held:
            self._rest += data
            return
        self._turn_ends = time.monotonic() + TURN_S
        at = 0
        try:
            # Only what the unfinished frame lacks is put to it: a copy of all would cost a large
            # message as much as its own.
            while self._rest and at < len(data) and not self._over:
                lacking = self._lacking()
                whole = self._rest + data[at : at + lacking]
                at += lacking
                self._rest = whole[self._read(whole, self._greet(whole)) :]
            if at < len(data):
                self._rest = data[self._read(data, at or self._greet(data)) :]
        except ConnectionFault as fault:
            self._fail(fault)

    def connection_lost(self, _error: Exception | None) -> None:
        """Give up what is under way."""
        self._over = True
        self._streams.abandon_all()
        self._on_lost(self)

    def pause_writing(self) -> None:
        """Hold answers back: the client does not read."""
        self._out.pause()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._out.resume()

    # -- what the server calls -------------------------------------------------------------------

    def drain(self) -> None:
        """Take no new calls, without failing those that are on their way, and close at the end.

        The client is told to go; when it has answered a PING behind that, it knows, and calls it
        began before are here (RFC 9113, section 6.8).
        """
        if self._over or self._draining:
            return
        self._draining = True
        self._out.control(frames.goaway(STREAM_BITS, Code.NO_ERROR))
        self._out.control(frames.frame(frames.PING, 0, 0, _DRAINED))

    def drained(self) -> None:
        """Take no calls at all from here on; close once those that run have ended."""
        if self._over or self._streams.shut:
            return
        self._draining = self._closing = self._streams.shut = True
        self._out.control(frames.goaway(self._streams.last_id, Code.NO_ERROR))
        self._close_if_done()

    def end_all(self) -> None:
        """End every call now and close."""
        if self._over:
            return
        self.drained()
        self._streams.end_all(StatusCode.UNAVAILABLE, "the server is shutting down")
        self._close()

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        self._over = True
        self._transport.abort()

    def sweep(self, now: float) -> None:
        """End what keeps the server waiting; ``now`` is monotonic seconds."""
        self._streams.sweep(now)
        unsent = self._transport.get_write_buffer_size()
        waiting = not self._settled or self._rest or self._block is not None or unsent
        progress = self._progress * 31 + unsent
        if not waiting or (self._settled and progress != self._progress_seen):
            self._progress_seen, self._stalled_at = progress, now
            return
        opening = not self._settled or self._block is not None
        if now - self._stalled_at > (OPENING_TIMEOUT_S if opening else STALL_TIMEOUT_S):
            self.abort()

    # -- frames ----------------------------------------------------------------------------------

    def _greet(self, data: bytes) -> int:
        """Return where frames begin in ``data``: behind the preface, which is answered by ours.

        Raises ConnectionFault; an HTTP/1 client is told in its own language what speaks here.
        """
        if self._greeted:
            return 0
        if not PREFACE.startswith(data[: len(PREFACE)]):
            if data[:1].isalpha() and b"HTTP/1." in data[:4096]:
                self._transport.write(_NOT_HTTP2)
            raise ConnectionFault(Code.PROTOCOL_ERROR, "no HTTP/2 preface")
        if len(data) < len(PREFACE):
            return 0
        self._greeted = True
        self._out.control(settings.ours())
        extra = settings.CONNECTION_WINDOW - settings.DEFAULT_WINDOW
        self._out.control(frames.window_update(0, extra))
        return len(PREFACE)

    def _lacking(self) -> int:
        """Return how many bytes finish what is unfinished: preface, frame's head, or frame."""
        rest = self._rest
        if not self._greeted:
            return len(PREFACE) - len(rest)
        if len(rest) < HEAD_BYTES:
            return HEAD_BYTES - len(rest)
        length = int.from_bytes(rest[:3])
        return HEAD_BYTES + length - len(rest)

    def _read(self, data: bytes, at: int) -> int:
        """Take whole frames of ``data`` from ``at``, for a turn; return where the rest begins."""
        size = len(data)
        while self._greeted and size - at >= HEAD_BYTES and not (self._over or self._held):
            high, low, kind, flags, stream_id = HEAD.unpack_from(data, at)
            length = high << 8 | low
            if length > MAX_FRAME:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            start = at + HEAD_BYTES
            end = start + length
            if end > size:
                break
            if not self._settled and kind != frames.SETTINGS:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            stream_id &= STREAM_BITS
            if self._block is not None and kind != frames.CONTINUATION:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block is interrupted")
            self._progress += 1
            try:
                if kind == frames.DATA:
                    self._on_data(stream_id, flags, data, start, end)
                elif kind == frames.HEADERS:
                    self._on_headers(stream_id, flags, data, start, end)
                else:
                    take = self._kinds.get(kind, self._on_unknown)
                    take(stream_id, flags, data[start:end])
            except StreamFault as fault:
                self._spend(self._resets, "calls that are reset")
                self._streams.reset(fault.stream_id, fault.code)
            at = end
            if not self._progress & 15 and time.monotonic() > self._turn_ends:
                self._hold()
        return at

    def _hold(self) -> None:
        """Let the others have a turn before the rest is read."""
        if self._held or self._over:
            return
        self._held = True
        self._transport.pause_reading()
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._held = False
        if self._over or self._transport.is_closing():
            return
        self._transport.resume_reading()
        rest, self._rest = self._rest, b""
        try:
            self.data_received(rest)
        except Exception:  # nobody above would give the connection up
            _log.exception("a gRPC connection is given up")
            self.abort()

    def _on_data(self, stream_id: int, flags: int, data: bytes, start: int, end: int) -> None:
        length = end - start
        self._window -= length
        if self._window < settings.CONNECTION_WINDOW // 2:
            credit = settings.CONNECTION_WINDOW - self._window
            self._out.control(frames.window_update(0, credit))
            self._window += credit
        if flags & frames.PADDED:
            start, end = frames.trimmed(frames.DATA, flags, data, start, end)
        if start == end and not flags & frames.END_STREAM:
            self._spend(self._empty, "empty frames")
        self._streams.data(stream_id, bool(flags & frames.END_STREAM), data, (start, end, length))

    def _on_headers(self, stream_id: int, flags: int, data: bytes, start: int, end: int) -> None:
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & (frames.PADDED | frames.WITH_PRIORITY):
            start, end = frames.trimmed(frames.HEADERS, flags, data, start, end)
        if flags & frames.END_HEADERS:
            ended = bool(flags & frames.END_STREAM)
            self._streams.headers(stream_id, ended, data[start:end])
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
            if not self._settled:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._spend(self._answered, "SETTINGS frames")
            return
        self._settled = True
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
        elif payload == _DRAINED and self._draining:
            self.drained()

    def _on_rst_stream(self, stream_id: int, _flags: int, payload: bytes) -> None:
        frames.number(payload)
        self._check_known(stream_id)
        if self._streams.reset_by_client(stream_id):
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
        self._closing = True
        self._close_if_done()

    def _on_unknown(self, _stream_id: int, _flags: int, _payload: bytes) -> None:
        self._spend(self._empty, "frames of no use")

    def _check_known(self, stream_id: int) -> None:
        if not stream_id or stream_id > self._streams.last_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame on a stream that was never opened")

    def _served(self) -> float:
        """Return how much was done for this client: calls, and frames full of answers."""
        return self._streams.completed + self._out.sent_bytes / _FRAME_SENT_BYTES

    def _spend(self, allowance: Allowance, what: str) -> None:
        if not allowance.take():
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"too many {what}")
        self._spent += 1
        if not self._spent % TURN_SPENT:
            self._hold()

    # -- ends ------------------------------------------------------------------------------------

    def _on_sent(self, stream: Stream) -> None:
        self._streams.on_sent(stream)

    def _close_if_done(self) -> None:
        """Close when the connection is to end and no call is left on it."""
        if self._closing and not self._over and not len(self._streams):
            self._close()

    def _fail(self, fault: ConnectionFault) -> None:
        """End the connection; what runs is given up."""
        _log.debug("a gRPC connection is ended: %s (%s)", fault.text, fault.code.name)
        if self._greeted:
            self._out.control(frames.goaway(self._streams.last_id, fault.code, fault.text))
        self._close()
        self._streams.abandon_all()

    def _close(self) -> None:
        """Write what is put together and close behind it."""
        self._over = True
        self._rest = b""
        self._out.flush()
        self._transport.close()
