"""A datagram socket between master and worker: doorbell, queue and memory barrier in one.

``SOCK_SEQPACKET`` keeps message borders, passes descriptors, and tells at once (end of file)
when the other side has died. ``BlockingLink`` is the worker's side, ``AsyncLink`` the master's.
"""

from __future__ import annotations

import asyncio
import collections
import socket
from typing import Callable, Deque, Optional, Tuple

from serving.channel.messages import MAX_DATAGRAM, Message, decode, encode

_BUFFER_BYTES = 1 << 20


def pair() -> Tuple[socket.socket, socket.socket]:
    """Return the two ends of a new link; the first is for the master."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    return ours, theirs


class BlockingLink:
    """The worker's end. ``receive`` blocks; ``send`` may be called from any thread."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.setblocking(True)

    def send(self, message: Message) -> None:
        """Send one message; raises OSError when the master is gone."""
        self._end.send(encode(message))

    def receive(self) -> Tuple[Optional[Message], int]:
        """Wait for a message; ``(None, -1)`` at end of file. The int is a passed fd or -1."""
        data, fds, _flags, _address = socket.recv_fds(self._end, MAX_DATAGRAM, 1)
        if not data:
            return None, -1
        return decode(data), fds[0] if fds else -1


class AsyncLink:
    """The master's end, on the event loop.

    ``on_message`` is called for each message and ``on_close`` once, at end of file. A datagram
    that the socket does not take at once waits here in order: nothing is dropped, and the
    number waiting is bounded by what the scheduler has in flight.
    """

    def __init__(
        self,
        end: socket.socket,
        on_message: Callable[[Message], None],
        on_close: Callable[[], None],
    ) -> None:
        self._end = end
        self._on_message = on_message
        self._on_close = on_close
        self._waiting: Deque[Tuple[bytes, int]] = collections.deque()
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self.closed = False
        end.setblocking(False)

    def start(self) -> None:
        """Begin to listen; call from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._end.fileno(), self._readable)

    def send(self, message: Message, fd: int = -1) -> None:
        """Send a message, with a descriptor if given; after the end it does nothing."""
        if self.closed:
            return
        data = encode(message)
        if self._waiting or not self._try(data, fd):
            self._waiting.append((data, fd))
            assert self._loop is not None
            self._loop.add_writer(self._end.fileno(), self._writable)

    def close(self) -> None:
        """Hang up; ``on_close`` is not called for it."""
        if self.closed:
            return
        self.closed = True
        if self._loop is not None:
            self._loop.remove_reader(self._end.fileno())
            self._loop.remove_writer(self._end.fileno())
        self._end.close()

    def _try(self, data: bytes, fd: int) -> bool:
        try:
            if fd >= 0:
                socket.send_fds(self._end, [data], [fd])
            else:
                self._end.send(data)
        except BlockingIOError:
            return False
        except OSError:
            # The other side is gone; the reader sees the end of file and says so.
            return True
        return True

    def _writable(self) -> None:
        while self._waiting and self._try(*self._waiting[0]):
            self._waiting.popleft()
        if not self._waiting and self._loop is not None:
            self._loop.remove_writer(self._end.fileno())

    def _readable(self) -> None:
        # Several answers may be waiting; the bound keeps the loop fair to others.
        for _ in range(16):
            try:
                data = self._end.recv(MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                self._on_close()
                return
            self._on_message(decode(data))
            if self.closed:
                return
