"""A large body, read from the socket straight into the buffer of whoever wants it.

On the ordinary way every byte of a body is copied six times before it is decoded: out of the
loop's read buffer, out of the parser's, into uvicorn's and out of it, and together again. A body
whose length is known needs no parser: once its request runs, this stands in for the connection as
the transport's protocol until the body has ended. What the parser had read by then is copied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from serving.frontends.rest.asgi import ClientGone

EXTENSION = "serving.large_body"
"""What the ASGI scope of a request with such a body has among its extensions: a ``ReadInto``."""

LEAST_BYTES = 128 * 1024
"""Smaller bodies are there, as a rule, by the time that their request runs."""

ReadInto = Callable[[memoryview], Awaitable[None]]
"""Fills a buffer with the next bytes of the body; raises ClientGone. Not beyond its end."""


class Owner(Protocol):
    """The connection, as far as a body needs it."""

    transport: asyncio.Transport
    flow: FlowControl

    def heard(self) -> None:
        """The client has sent something."""
        ...

    def body_ended(self) -> None:
        """The body was taken past the parser: go on behind it."""
        ...

    def cut(self) -> None:
        """End at once."""
        ...

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport has ended."""
        ...

    def eof_received(self) -> None:
        """The client sends no more."""
        ...

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        ...

    def resume_writing(self) -> None:
        """It reads again."""
        ...


def length_of(fields: list[tuple[bytes, bytes]]) -> int:
    """Return the length of a body that is worth reading so; 0 for every other."""
    given = [value for name, value in fields if name == b"content-length"]
    if len(given) != 1 or not given[0].isdigit() or len(given[0]) > 18:
        return 0
    if any(name == b"transfer-encoding" for name, _ in fields):
        return 0
    length = int(given[0])
    return length if length >= LEAST_BYTES else 0


class LargeBody(asyncio.BufferedProtocol):
    """One body of ``length`` bytes; made by the connection whose latest request it belongs to.

    ``read_into`` is called by the task of that request. Event loop only.
    """

    def __init__(self, owner: Owner, cycle: RequestResponseCycle, length: int) -> None:
        self._owner = owner
        self._cycle = cycle
        self._left = length
        self._view = memoryview(b"")
        self._filled: asyncio.Future[None] | None = None
        self._installed = False

    async def read_into(self, view: memoryview) -> None:
        """Fill ``view``; raises ClientGone when the client goes before that."""
        cycle = self._cycle
        if cycle.waiting_for_100_continue and not self._owner.transport.is_closing():
            self._owner.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        taken = min(len(cycle.body), len(view))
        view[:taken] = memoryview(cycle.body)[:taken]
        cycle.body = cycle.body[taken:]
        self._left -= taken
        if taken < len(view):
            await self._read(view[taken:])

    async def _read(self, view: memoryview) -> None:
        transport, flow = self._owner.transport, self._owner.flow
        if self._cycle.disconnected or transport.is_closing():
            raise ClientGone
        self._view = view
        self._filled = asyncio.get_running_loop().create_future()
        if not self._installed:
            # Only a transport that begins to read asks for the buffer of its new protocol.
            flow.pause_reading()
            transport.set_protocol(self)
            self._installed = True
        flow.resume_reading()
        try:
            await self._filled
        except asyncio.CancelledError:
            self._owner.cut()  # nobody reads what is still to come, and it must not be written here
            raise
        finally:
            self._view = memoryview(b"")
            self._filled = None  # its error has a traceback with this in it

    # -- asyncio.BufferedProtocol --------------------------------------------------------------

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Return what is left to be filled, so that no byte behind the body is ever read."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Note what was read; give the transport back behind the body's end."""
        self._owner.heard()
        self._left -= nbytes
        self._view = self._view[nbytes:]
        if len(self._view):
            return
        self._owner.flow.pause_reading()
        if not self._left:
            self._owner.transport.set_protocol(self._owner)  # type: ignore[arg-type]
            self._owner.flow.resume_reading()
            self._owner.body_ended()
        if self._filled is not None and not self._filled.done():
            self._filled.set_result(None)

    def eof_received(self) -> None:
        """Leave it to the connection."""
        self._owner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the connection, and whoever waits for the body."""
        self._owner.connection_lost(exc)
        if self._filled is not None and not self._filled.done():
            self._filled.set_exception(ClientGone())

    def pause_writing(self) -> None:
        """Leave it to the connection."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """Leave it to the connection."""
        self._owner.resume_writing()
