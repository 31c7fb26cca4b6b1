"""uvicorn's HTTP connection, with the limits it does not have.

uvicorn (as of 0.54, over httptools) bounds neither the size of a request's head nor the time
that a head or a body may take, so a client could hold a connection for ever, or fill memory
with headers. Here the head is bounded in size as it arrives, and ``overdue`` lets the server
sweep the connections that wait on a silent client. Keep-alive between requests is uvicorn's.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
HEAD_TIMEOUT_S = 15.0
"""From the first byte of a request (or from connecting) to the end of its head."""

BODY_TIMEOUT_S = 60.0
"""Between two pieces of a body."""

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\n"
    b"content-length: 36\r\nconnection: close\r\n\r\nThe request's head is over 64 KiB.\r\n"
)


class GuardedProtocol(HttpToolsProtocol):
    """One HTTP connection; made by the server for each, lives on the event loop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._in_head = True
        self._heard = time.monotonic()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request."""
        self._heard = time.monotonic()
        super().connection_made(transport)

    def on_message_begin(self) -> None:
        """Start the clock and the count of a request's head."""
        self._in_head = True
        self._head_bytes = 0
        self._heard = time.monotonic()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is through; from here on the body's clock counts."""
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Note that the client is still sending."""
        self._heard = time.monotonic()
        super().on_body(body)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; close when a head does not end.

        Data in which a head begins behind a body is not counted: it is one read's worth.
        """
        was_in_head = self._in_head
        super().data_received(data)
        if was_in_head and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    def overdue(self, now: float) -> bool:
        """Return whether the client has kept the server waiting too long (``now``: monotonic)."""
        silent_s = now - self._heard
        if self._in_head:
            return silent_s > HEAD_TIMEOUT_S
        if self.cycle is None or self.cycle.response_complete or not self.cycle.more_body:
            return False
        return not self.flow.read_paused and silent_s > BODY_TIMEOUT_S
