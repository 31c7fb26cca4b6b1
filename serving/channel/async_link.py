"""The master's end of a link, on its event loop; see ``link``."""

from __future__ import annotations

import asyncio
import collections
import logging
import os
import select
import socket
from typing import Callable, Deque, Optional, Sequence, Tuple

from serving.channel.busy_poll import BusyPoll
from serving.channel.messages import MAX_DATAGRAM, Message, decode, encode

_log = logging.getLogger("serving.channel")


class AsyncLink:
    """The master's end, on the event loop.

    ``on_message`` is called for each message and ``on_close`` once, when the link has ended: at
    end of file, after what is no message, or when a message could not be sent. A datagram that
    the socket does not take at once waits here in order: nothing is dropped, and the number
    waiting is bounded by one run and the segments that its worker has been lent.

    The end of one who left something unread is first of all an error of the socket, and uvloop
    looks at such a socket no more, without a word. So whoever has a process watches for its exit
    too, and hears its links out then.
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
        self._waiting: Deque[Tuple[bytes, Sequence[int]]] = collections.deque()
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self.closed = False
        end.setblocking(False)
        poller = select.poll()
        poller.register(end, select.POLLIN)
        self._poll = poller.poll

    def start(self) -> None:
        """Begin to listen; call from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._end.fileno(), self._readable)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send a message, with descriptors if given; after the end it does nothing."""
        if self.closed:
            return
        data = encode(message)
        if self._waiting or not self._try(data, fds):
            try:
                # Copies: the caller may have closed its descriptors by the time these are sent.
                self._waiting.append((data, [os.dup(fd) for fd in fds]))
            except OSError as error:
                self._give_up(error)
                return
            assert self._loop is not None
            self._loop.add_writer(self._end.fileno(), self._writable)

    def look_out(self, busy_poll: BusyPoll) -> None:
        """Wait for a message without falling asleep, and take it, if it comes soon enough."""
        if not self.closed and busy_poll.look_out(self._poll):
            self._readable()

    def hear_out(self) -> None:
        """Take every message that is there, of a sender that is known to have ended."""
        while not self.closed and self._poll(0):
            self._readable()

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

    def _try(self, data: bytes, fds: Sequence[int]) -> bool:
        try:
            if fds:
                socket.send_fds(self._end, [data], fds)
            else:
                self._end.send(data)
        except BlockingIOError:
            return False
        except ConnectionError:
            # The other side is gone; the reader sees the end of file and says so.
            return True
        except OSError as error:
            self._give_up(error)
            return True
        return True

    def _give_up(self, error: OSError) -> None:
        """End the link, and the reader says so: an answer would be waited for for ever."""
        _log.error("a message to a worker could not be sent: %s", error.strerror)
        self._end.shutdown(socket.SHUT_RDWR)

    def _drop_first(self) -> None:
        _, fds = self._waiting.popleft()
        for fd in fds:
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
        except ConnectionResetError:
            # The other side ended with something unread. What it said before comes after this.
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
