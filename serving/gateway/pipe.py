"""One end of the stream between the master and a front-end process.

What is sent within one turn of the loop goes out in one system call, and what has come in is taken
out in one: that is what makes many small requests cheap. A descriptor travels with the frame that
it belongs to; what the socket does not take at once waits here in order.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable

from serving.gateway.frames import HEAD, LONGEST, decode, encode
from serving.gateway.messages import Message

_log = logging.getLogger("serving.gateway")

_READ_BYTES = 256 * 1024
_MOST_FDS = 64
_DELAY_S = 0.005
_FD_SPACE = socket.CMSG_SPACE(4 * _MOST_FDS)


class Pipe:
    """Event loop only. ``on_message`` is called for each message, ``on_close`` once at the end.

    The end is the other side's, or what is no message: its sender is broken. ``take_fd`` returns
    the descriptors that came, in the order of the messages that they belong to.
    """

    def __init__(
        self,
        end: socket.socket,
        on_message: Callable[[Message], None],
        on_close: Callable[[], None],
    ) -> None:
        end.setblocking(False)
        self._end = end
        self._on_message = on_message
        self._on_close = on_close
        self._loop: asyncio.AbstractEventLoop | None = None
        # Kept: a fresh one of this size for each read costs more than what is read.
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._parts: list[bytes] = []  # of a frame that is not whole, with so many bytes
        self._have = self._needed = 0
        self._fds: collections.deque[int] = collections.deque()
        self._fresh: list[bytes] = []
        self._queue: collections.deque[tuple[bytes, int]] = collections.deque()
        self._flushing = False
        self._delay: asyncio.TimerHandle | None = None
        self._blocked = False
        self.closed = False

    def start(self) -> None:
        """Begin to listen; call from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._end.fileno(), self._readable)
        self._flush_soon()

    def send(self, message: Message, fd: int = -1) -> None:
        """Send a message at the end of this turn, with a descriptor if given.

        The descriptor may be closed when this returns. After the end nothing is sent.
        """
        if self.closed:
            return
        frame = encode(message)
        if fd >= 0:
            self._close_batch()
            self._queue.append((frame, os.dup(fd)))
        else:
            self._fresh.append(frame)
        if not self._flushing:
            self._flush_soon()

    def send_with_next(self, message: Message) -> None:
        """Send a message that nobody waits for: with the next one, or in a few milliseconds.

        A send of its own would wake the other process once more for each request.
        """
        if self.closed or self._loop is None:
            return
        self._fresh.append(encode(message))
        if not self._flushing and self._delay is None:
            self._delay = self._loop.call_later(_DELAY_S, self.flush)

    def take_fd(self) -> int:
        """Return the descriptor that came with the message at hand, which now is the caller's."""
        return self._fds.popleft() if self._fds else -1

    def flush(self) -> None:
        """Send now what was to be sent at the end of this turn."""
        self._flushing = False
        if self._delay is not None:
            self._delay.cancel()
            self._delay = None
        self._close_batch()
        if not self._blocked and not self.closed:
            self._write()

    def close(self) -> None:
        """Hang up; ``on_close`` is not called for it."""
        if self.closed:
            return
        self.closed = True
        if self._loop is not None:
            self._loop.remove_reader(self._end.fileno())
            self._loop.remove_writer(self._end.fileno())
        if self._delay is not None:
            self._delay.cancel()
        self._end.close()
        self._fresh.clear()
        for fd in (*[fd for _, fd in self._queue], *self._fds):
            if fd >= 0:
                os.close(fd)
        self._queue.clear()
        self._fds.clear()

    # -- writing -------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        if self._loop is not None and (self._fresh or self._queue):
            self._flushing = True
            self._loop.call_soon(self.flush)

    def _close_batch(self) -> None:
        if self._fresh:
            self._queue.append((b"".join(self._fresh), -1))
            self._fresh.clear()

    def _write(self) -> None:
        while self._queue:
            data, fd = self._queue[0]
            try:
                sent = self._send(data, fd)
            except BlockingIOError:
                self._wait_to_write()
                return
            except OSError as error:
                # The reader sees the end of file and says so.
                if not isinstance(error, ConnectionError):
                    _log.error("a message could not be sent: %s", error.strerror)
                with contextlib.suppress(OSError):
                    self._end.shutdown(socket.SHUT_RDWR)
                self._let_go_of_queue()
                return
            if fd >= 0:
                os.close(fd)
            if sent < len(data):
                self._queue[0] = (data[sent:], -1)
            else:
                self._queue.popleft()
        if self._blocked and self._loop is not None:
            self._blocked = False
            self._loop.remove_writer(self._end.fileno())

    def _send(self, data: bytes, fd: int) -> int:
        return self._end.send(data) if fd < 0 else socket.send_fds(self._end, [data], [fd])

    def _wait_to_write(self) -> None:
        if not self._blocked and self._loop is not None:
            self._blocked = True
            self._loop.add_writer(self._end.fileno(), self._write)

    def _let_go_of_queue(self) -> None:
        for _, fd in self._queue:
            if fd >= 0:
                os.close(fd)
        self._queue.clear()

    # -- reading -------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            data = self._receive()
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            if not data:
                raise EOFError
            self._feed(data)
        except EOFError:
            self._end_it()
        except ValueError as error:
            _log.error("the other side is broken: %s", error)
            self._end_it()
        except Exception:
            # What came behind it is lost, and somebody would wait for it for ever.
            _log.exception("a message could not be taken")
            self._end_it()

    def _receive(self) -> bytes:
        size, passed, _flags, _address = self._end.recvmsg_into([self._buffer], _FD_SPACE)
        for _level, _kind, fds in passed:
            for at in range(0, len(fds) - len(fds) % 4, 4):
                self._fds.append(int.from_bytes(fds[at : at + 4], sys.byteorder))
        return bytes(self._buffer[:size])

    def _feed(self, data: bytes) -> None:
        if self._parts:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._needed:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        at, end, needed = 0, len(data), HEAD.size
        while end - at >= HEAD.size:
            length, kind = HEAD.unpack_from(data, at)
            if length > LONGEST:
                raise ValueError(f"a frame of {length} bytes")
            begin = at + HEAD.size
            if begin + length > end:
                needed += length
                break
            at = begin + length
            self._on_message(decode(kind, data[begin:at]))
            if self.closed:
                return
        if at < end:
            self._parts.append(data[at:])
            self._have, self._needed = end - at, needed

    def _end_it(self) -> None:
        if not self.closed:
            self.close()
            self._on_close()
