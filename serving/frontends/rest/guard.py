"""uvicorn's HTTP connection, with the limits it does not have.

uvicorn (as of 0.54, over httptools) bounds neither the size of a request's head nor the time
that a head, a body or the reading of an answer may take, so a client could hold a connection and
its memory for ever, or fill memory with headers. Here the head is bounded in size as it arrives,
and ``overdue`` lets the server sweep the connections that wait on a silent client. The sweep
stands in for uvicorn's keep-alive timer too: setting and cancelling a timer for each request
would cost more than looking up its head.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from serving.frontends.rest.plain_http import PlainHttp

MAX_HEAD_BYTES = 64 * 1024
HEAD_TIMEOUT_S = 15.0
"""From the first byte of a request (or from connecting) to the end of its head."""

BODY_TIMEOUT_S = 60.0
"""Between two pieces of a body."""

WRITE_TIMEOUT_S = 60.0
"""Between two bytes that the client takes of an answer, once so much waits that we pause."""

KEEP_ALIVE_S = 75.0
"""Between two requests; common load balancers drop an idle connection themselves after 60 s."""

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\n"
    b"content-length: 36\r\nconnection: close\r\n\r\nThe request's head is over 64 KiB.\r\n"
)


class GuardedProtocol(PlainHttp):
    """One HTTP connection; made by the server for each, lives on the event loop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._in_head = True
        self._head_ended = False  # some head did, in the latest read
        self._heard = time.monotonic()
        self._unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request."""
        self._heard = time.monotonic()
        super().connection_made(transport)

    def head_begins(self) -> None:
        """Start the clock and the count of a request's head."""
        self._in_head = True
        self._head_bytes = 0
        self._heard = time.monotonic()

    def head_ends(self) -> None:
        """Note that the head is through; from here on the body's clock counts."""
        self._in_head = False
        self._head_ended = True

    def heard(self) -> None:
        """Start the clock anew: the client has sent something, or has been answered."""
        self._heard = time.monotonic()

    def on_headers_complete(self) -> None:
        """The head is through."""
        self.head_ends()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Note that the client is still sending."""
        self._heard = time.monotonic()
        super().on_body(body)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; close when a head does not end.

        Data in which a head begins behind something else is not counted: it is one read's worth.
        """
        was_in_head = self._in_head
        self._head_ended = False
        super().data_received(data)
        if was_in_head and self._in_head and not self._head_ended:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    def on_response_complete(self) -> None:
        """Go on with the pipeline; as uvicorn does, but for its timer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._heard = time.monotonic()
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def overdue(self, now: float) -> bool:
        """Return whether the client has kept the server waiting too long (``now``: monotonic)."""
        if self.flow.write_paused:
            return self._stalled(now)
        silent_s = now - self._heard
        if self.cycle is None or self.cycle.response_complete:
            return silent_s > (HEAD_TIMEOUT_S if self._in_head else KEEP_ALIVE_S)
        if not self.cycle.more_body:
            return False  # it is the client that waits, whatever it has begun to send
        return not self.flow.read_paused and silent_s > BODY_TIMEOUT_S

    def _stalled(self, now: float) -> bool:
        """Return whether the client has long taken nothing of what is written for it."""
        unread = self.transport.get_write_buffer_size()
        if unread != self._unread:
            self._unread, self._heard = unread, now
        return now - self._heard > WRITE_TIMEOUT_S
