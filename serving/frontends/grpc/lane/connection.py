"""One HTTP/2 connection: greeting, reading in turns, and the ways it ends.

Source: RFC 9113. Frames are taken apart by ``reader``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from serving.frontends import parting
from serving.frontends.ended import ENDED
from serving.frontends.grpc.lane import frames, settings
from serving.frontends.grpc.lane.faults import Code, ConnectionFault
from serving.frontends.grpc.lane.frames import PREFACE, STREAM_BITS, Buffer
from serving.frontends.grpc.lane.outgoing import Outgoing
from serving.frontends.grpc.lane.reader import DRAINED, Reader
from serving.frontends.grpc.lane.shared import Shared
from serving.frontends.grpc.lane.stream import Stream
from serving.frontends.grpc.lane.streams import Streams
from serving.frontends.grpc.status_code import StatusCode
from serving.frontends.parting import Parting

OPENING_TIMEOUT_S = 15.0
"""How long a client may take for its preface and SETTINGS, and for a block of headers."""

STALL_TIMEOUT_S = 60.0
"""How long a client may take nothing of what is written, or leave a frame unfinished."""

_FEW_BYTES = 1 << 14
"""Read at once up to this, bytes are looked at as such: that is quicker than at a view."""

_log = logging.getLogger("serving.frontends.grpc")

_NOT_HTTP2 = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 60\r\n"
    b"connection: close\r\n\r\nThis port speaks gRPC over HTTP/2; REST is on another port.\n"
)


class Connection(asyncio.BufferedProtocol):
    """Made by the server for each client; lives on the event loop.

    All connections read into one buffer, which holds nothing between two reads.
    """

    def __init__(
        self,
        shared: Shared,
        on_made: Callable[[Connection, asyncio.BaseTransport], None],
        on_lost: Callable[[Connection], None],
    ) -> None:
        self._shared = shared
        self._received = shared.received
        self._on_made = on_made
        self._on_lost = on_lost
        self._rest = b""  # of an unfinished frame, or what waits for its turn
        self._held = False
        self._greeted = False
        self._draining = self._closing = self._over = False
        self._parting: Parting | None = None
        self._progress_seen = 0
        self._stalled_at = time.monotonic()

    # -- what asyncio calls ----------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Wait for the client's greeting; with TLS only for one that agreed to HTTP/2."""
        self._transport = transport
        self._out = Outgoing(transport, self._shared.unread, self._on_sent)
        self._streams = Streams(self._shared, self._out, self._close_if_done)
        self._reader = Reader(self._streams, self._out, self._on_drained, self._on_leaving)
        self._on_made(self, transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self._over = True
            transport.close()

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Return where to read to: behind what is there of an unfinished frame."""
        if self._held or not self._rest:
            return self._received
        size = len(self._rest)
        self._received[:size] = self._rest
        return self._received[size:]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what came; the rest of an unfinished frame waits for more."""
        if self._over:
            return
        if self._held:
            self._rest += self._received[:nbytes]
            return
        size = len(self._rest) + nbytes
        came = self._received[:size]
        self._take(came if size > _FEW_BYTES else came.tobytes())
        if size == len(self._received):  # there may be more yet, which would be read at once
            self._hold()

    def connection_lost(self, _error: Exception | None) -> None:
        """Give up what is under way, and hold on to nothing that refers to this; see ``ENDED``."""
        self._end()
        self._streams.abandon_all()
        self._on_lost(self)
        self._out.let_go()
        self._transport, self._parting = ENDED, None
        del self._streams, self._out, self._reader

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
        self._out.control(frames.frame(frames.PING, 0, 0, DRAINED))

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
        self._end()
        self._transport.abort()

    def sweep(self, now: float) -> None:
        """End what keeps the server waiting; ``now`` is monotonic seconds."""
        if self._parting is not None:
            if self._parting.over(now):
                self.abort()
            return
        self._streams.sweep(now)
        unsent = self._transport.get_write_buffer_size()
        reader = self._reader
        waiting = not reader.settled or self._rest or reader.within_block or unsent
        progress = reader.progress * 31 + unsent
        if not waiting or (reader.settled and progress != self._progress_seen):
            self._progress_seen, self._stalled_at = progress, now
            return
        opening = not reader.settled or reader.within_block
        if now - self._stalled_at > (OPENING_TIMEOUT_S if opening else STALL_TIMEOUT_S):
            self.abort()

    # -- reading ---------------------------------------------------------------------------------

    def _greet(self, data: Buffer) -> int:
        """Return where frames begin in ``data``: behind the preface, which is answered by ours.

        Raises ConnectionFault; an HTTP/1 client is told in its own language what speaks here.
        """
        begin = bytes(data[:4096])
        if not PREFACE.startswith(begin[: len(PREFACE)]):
            if begin[:1].isalpha() and b"HTTP/1." in begin:
                self._transport.write(_NOT_HTTP2)
            raise ConnectionFault(Code.PROTOCOL_ERROR, "no HTTP/2 preface")
        if len(data) < len(PREFACE):
            return 0
        self._greeted = True
        self._out.control(settings.ours())
        extra = settings.CONNECTION_WINDOW - settings.DEFAULT_WINDOW
        self._out.control(frames.window_update(0, extra))
        return len(PREFACE)

    def _take(self, data: Buffer) -> None:
        """Read what there is, for a turn, and keep the rest."""
        try:
            at = 0 if self._greeted else self._greet(data)
            if self._greeted:
                at = self._reader.read(data, at)
        except ConnectionFault as fault:
            self._fail(fault)
        if self._over:
            return
        self._rest = bytes(data[at:]) if at < len(data) else b""
        if self._reader.tired:
            self._hold()

    def _hold(self) -> None:
        """Let the others have a turn before more is read."""
        if self._held or self._over:
            return
        self._held = True
        self._transport.pause_reading()
        self._shared.turns.wait(self._go_on)

    def _go_on(self) -> None:
        self._held = False
        if self._over or self._transport.is_closing():
            return
        if self._rest:
            try:
                self._take(self._rest)
            except Exception:  # nobody above would give the connection up
                _log.exception("a gRPC connection is given up")
                self.abort()
        if not (self._held or self._over):
            self._transport.resume_reading()

    # -- ends ------------------------------------------------------------------------------------

    def _on_sent(self, stream: Stream) -> None:
        self._streams.on_sent(stream)

    def _on_drained(self) -> None:
        """The client has answered a PING of ours: it knows of the drain, if there is one."""
        if self._draining:
            self.drained()

    def _on_leaving(self) -> None:
        """The client makes no more calls."""
        self._closing = True
        self._close_if_done()

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
        """Write what is put together and part from the client."""
        self._end()
        self._out.finish()
        if not self._transport.is_closing():
            self._parting = Parting(self._transport, self, parting.PARTING_BYTES)

    def _end(self) -> None:
        """Read nothing more."""
        self._over = True
        self._rest = b""
        self._reader.end()
