"""A datagram socket between master and worker: doorbell, queue and memory barrier in one.

``SOCK_SEQPACKET`` keeps message borders, passes descriptors, and tells at once (end of file)
when the other side has died. ``BlockingLink`` is the worker's side; the master's is
``async_link.AsyncLink``, apart from this one because asyncio would cost every worker 9 MB.
"""

from __future__ import annotations

import array
import select
import socket
from typing import Optional, Tuple

from serving.channel.busy_poll import BusyPoll
from serving.channel.messages import MAX_DATAGRAM, Message, decode, encode

_BUFFER_BYTES = 1 << 20
MOST_FDS = 250
"""Descriptors that travel with one message; the kernel takes 253."""

_PASSED = socket.CMSG_SPACE(4 * MOST_FDS)


def pair(
    kind: socket.SocketKind = socket.SOCK_SEQPACKET,
) -> Tuple[socket.socket, socket.socket]:
    """Return the two ends of a new link; the first is for the master."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    return ours, theirs


class BlockingLink:
    """The worker's end. ``receive`` blocks; ``send`` may be called from any thread.

    With ``busy_poll_us`` it looks out for the next message for so long before it falls asleep.
    """

    def __init__(self, end: socket.socket, busy_poll_us: int = 0) -> None:
        self._end = end
        self._busy_poll = BusyPoll(busy_poll_us) if busy_poll_us else None
        poller = select.poll()
        poller.register(end, select.POLLIN)
        self._poll = poller.poll
        # Kept: a fresh one of this size for each message costs more than the message.
        self._buffer = memoryview(bytearray(MAX_DATAGRAM))
        end.setblocking(True)

    def send(self, message: Message) -> None:
        """Send one message; raises OSError when the master is gone."""
        self._end.send(encode(message))

    def receive(self) -> Tuple[Optional[Message], Tuple[int, ...]]:
        """Wait for a message, and the descriptors that came with it; None at end of file.

        Raises ValueError for what is no message.
        """
        if self._busy_poll is not None:
            self._busy_poll.look_out(self._poll)
        try:
            size, passed, _flags, _address = self._end.recvmsg_into([self._buffer], _PASSED)
        except ConnectionResetError:
            # How the end of file looks when the master has hung up on answers it did not read.
            return None, ()
        if not size:
            return None, ()
        fds = tuple(array.array("i", passed[0][2])) if passed else ()
        return decode(bytes(self._buffer[:size])), fds
