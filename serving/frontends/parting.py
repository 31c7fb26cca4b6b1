"""Ends a connection so that its client can still read what was said to it last.

A socket that is closed with something unread in it, or to which more is sent, answers with a reset,
and what the client has not read by then is lost to it: the very words that say why. So the sending
side is closed first, and what still comes is dropped for a while (RFC 9112, section 9.6; RFC 9113,
section 5.4.1).
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from serving.frontends.ended import ENDED

PARTING_S = 2.0
"""How long a client may take to hang up, once it has been sent all."""

UNSENT_S = 60.0
"""How long it may take nothing of what is still to be sent."""

PARTING_BYTES = 64 << 20
"""Dropped of what one client still sends; beyond that nothing is read."""

BODY_BYTES = 1 << 30
"""The same where that is the rest of a request: many clients send all of it before they read."""

_DROPPED = memoryview(bytearray(1 << 16))


class Parting(asyncio.BufferedProtocol):
    """Takes a protocol's place on a transport whose last bytes are written; event loop only.

    Whoever keeps the connections asks each second or so whether it is ``over``. ``protocol`` hears
    of nothing but the end, and of pauses in writing. At most ``drop_bytes`` are dropped.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        protocol: asyncio.Protocol | asyncio.BufferedProtocol,
        drop_bytes: int,
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._left = drop_bytes
        self._unsent = transport.get_write_buffer_size()
        self._since = time.monotonic()
        # Only a transport that begins to read asks for the buffer of its new protocol.
        transport.pause_reading()
        transport.set_protocol(self)
        if transport.can_write_eof():  # with TLS it cannot: its client hears it at the end
            with contextlib.suppress(OSError):  # the client has gone already; reading says so
                transport.write_eof()
        transport.resume_reading()

    def over(self, now: float) -> bool:
        """Return whether the client has had its time; ``now`` is monotonic seconds."""
        unsent = self._transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self._since = unsent, now
        return now - self._since > (UNSENT_S if unsent else PARTING_S)

    # -- asyncio.BufferedProtocol ----------------------------------------------------------------

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Return where to put what nobody reads."""
        return _DROPPED

    def buffer_updated(self, nbytes: int) -> None:
        """Drop what came."""
        self._left -= nbytes
        if self._left <= 0:
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the protocol, and let go of the transport."""
        self._transport = ENDED
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """Tell the protocol."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Tell the protocol."""
        self._protocol.resume_writing()
