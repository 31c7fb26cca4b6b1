"""A datagram socket between master and worker: doorbell, queue and memory barrier in one.

``SOCK_SEQPACKET`` keeps message borders, passes descriptors, and tells at once (end of file)
when the other side has died. ``BlockingLink`` is the worker's side, ``AsyncLink`` the master's.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import os
import socket
import sys
from typing import Callable, Deque, Optional, Tuple

from serving.channel.messages import MAX_DATAGRAM, Message, decode, encode

_log = logging.getLogger("serving.channel")

_BUFFER_BYTES = 1 << 20
_ONE_FD = socket.CMSG_SPACE(4)


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
        # Kept: a fresh one of this size for each message costs more than the message.
        self._buffer = memoryview(bytearray(MAX_DATAGRAM))
        end.setblocking(True)

    def send(self, message: Message) -> None:
        """Send one message; raises OSError when the master is gone."""
        self._end.send(encode(message))

    def receive(self) -> Tuple[Optional[Message], int]:
        """Wait for a message; ``(None, -1)`` at end of file. The int is a passed fd or -1.

        Raises ValueError for what is no message.
        """
        try:
            size, passed, _flags, _address = self._end.recvmsg_into([self._buffer], _ONE_FD)
        except ConnectionResetError:
            # How the end of file looks when the master has hung up on answers it did not read.
            return None, -1
        if not size:
            return None, -1
        fd = int.from_bytes(passed[0][2][:4], sys.byteorder) if passed else -1
        return decode(bytes(self._buffer[:size])), fd


class AsyncLink:
    """The master's end, on the event loop.

    ``on_message`` is called for each message and ``on_close`` once, when the link has ended: at
    end of file, after what is no message, or when a message could not be sent. A datagram that
    the socket does not take at once waits here in order: nothing is dropped, and the number
    waiting is bounded by one run and the segments that its worker has been lent.
    """

    def __init__(
        self,
        end: socket.socket,
        on_message: Callable[[Message], None],
        on_close: Callable[[], None],
    ) -> None:
        self._end = end
        self._buffer = memoryview(bytearray(MAX_DATAGRAM))
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
            # A copy: the caller may have closed its descriptor by the time this one is sent.
            self._waiting.append((data, os.dup(fd) if fd >= 0 else -1))
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
        while self._waiting:
            self._drop_first()

    def _try(self, data: bytes, fd: int) -> bool:
        try:
            if fd >= 0:
                socket.send_fds(self._end, [data], [fd])
            else:
                self._end.send(data)
        except BlockingIOError:
            return False
        except ConnectionError:
            # The other side is gone; the reader sees the end of file and says so.
            return True
        except OSError as error:
            # Its answer would be waited for for ever: the link ends, and the reader says so.
            _log.error("a message to a worker could not be sent: %s", error.strerror)
            self._end.shutdown(socket.SHUT_RDWR)
            return True
        return True

    def _drop_first(self) -> None:
        _, fd = self._waiting.popleft()
        if fd >= 0:
            os.close(fd)

    def _writable(self) -> None:
        while self._waiting and self._try(*self._waiting[0]):
            self._drop_first()
        if not self._waiting and self._loop is not None:
            self._loop.remove_writer(self._end.fileno())

    def _readable(self) -> None:
        # One message a call: the loop calls again while there are more, and nearly always there
        # are none, so that trying would cost a system call and an exception.
        try:
            size = self._end.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        message = _understood(bytes(self._buffer[:size])) if size else None
        if message is None:
            self.close()
            self._on_close()
            return
        self._on_message(message)


def _understood(data: bytes) -> Optional[Message]:
    """Return a message, or None for what is none: its sender is broken and must be replaced."""
    try:
        return decode(data)
    except ValueError as error:
        _log.error("a worker sent what is no message: %s", error)
        return None
