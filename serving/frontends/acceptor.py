"""Takes connections from listening sockets that several processes share, a fair part of them.

The kernel wakes every process that waits on such a socket, and the quickest takes what is there:
of 16 clients that connect together one of two processes got 14 to 16. ``SO_REUSEPORT`` deals them
out by a hash instead, 8 clients as 2 and 6, and a process that ends takes its queue along. So each
process tells the others how many connections it has (``Shares``), and one that has more than
another leaves a new one alone for a moment.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import mmap
import os
import resource
import socket
from collections.abc import Callable, Sequence
from typing import Any

_log = logging.getLogger("serving.frontends")

ABSENT = 2**32 - 1
"""What stands for a process that takes no connections now."""
_LEFT_ALONE_S = 0.005
_LONGEST_S = 0.05
_TOLD_EVERY_S = 0.05
_OUT_OF_MEANS_S = 0.1
_AT_ONCE = 16
_MOST_KEPT = 256
_KEPT_SHARE = 4
"""Of the files that a process may have open connections leave the fourth part, but not more than
that: memory that the master lends takes some, and without it no large request could be answered."""


class Shares:
    """How many connections each process has, in shared memory: one number for each of them.

    The page is made by ``create`` and passed on as a descriptor. Every process writes its own
    number and reads all; the one that watches over them says who is ``absent``.
    """

    def __init__(self, fd: int, processes: int, mine: int = 0) -> None:
        self._page = mmap.mmap(fd, 4 * processes)
        self._all = memoryview(self._page).cast("I")
        self._mine = mine

    @staticmethod
    def create(processes: int) -> int:
        """Return the descriptor of a page on which everybody is absent."""
        fd = os.memfd_create("serving-shares", os.MFD_CLOEXEC)
        os.write(fd, ABSENT.to_bytes(4, "little") * processes)
        return fd

    def tell(self, connections: int) -> None:
        """Say how many connections this process has."""
        self._all[self._mine] = connections

    def absent(self, process: int) -> None:
        """Say that a process takes no connections."""
        self._all[process] = ABSENT

    @property
    def excess(self) -> int:
        """How many connections this process has more than the one with the fewest."""
        return self._all[self._mine] - min(self._all)

    def close(self) -> None:
        """Let go of the page."""
        self._all.release()
        self._page.close()


class Acceptor:
    """Stands where ``loop.create_server`` would return a server. Event loop only.

    ``make`` makes the protocol of a connection, ``count`` says how many there are now, and
    ``secured`` has the arguments for TLS. The sockets are closed with it: other processes have
    descriptors of their own.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        shares: Shares,
        make: Callable[[], asyncio.BaseProtocol],
        count: Callable[[], int],
        secured: dict[str, Any],
    ) -> None:
        self._listeners = list(listeners)
        self._shares = shares
        self._make = make
        self._count = count
        self._secured = secured
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._out_of_means = False
        self._closed = False

    def start(self) -> None:
        """Begin to take connections."""
        self._tell_on()
        for listener in self._listeners:
            listener.setblocking(False)
            self._listen(listener)

    def close(self) -> None:
        """Take no more; what was taken goes on."""
        if self._closed:
            return
        self._closed = True
        for timer in self._timers:
            timer.cancel()
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
            listener.close()
        self._shares.tell(ABSENT)

    async def wait_closed(self) -> None:
        """Wait for the handshakes that are under way."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    # -- inside --------------------------------------------------------------------------------

    def _listen(self, listener: socket.socket) -> None:
        self._loop.add_reader(listener.fileno(), self._ready, listener)

    def _tell_on(self) -> None:
        """Tell how many connections there are, now and again and again."""
        self._tell()
        self._later(_TOLD_EVERY_S, self._tell_on)

    def _tell(self) -> None:
        self._shares.tell(self._count() + len(self._opening))

    def _ready(self, listener: socket.socket) -> None:
        self._tell()
        excess = self._shares.excess
        if excess:
            self._leave_alone(listener, min(excess * _LEFT_ALONE_S, _LONGEST_S))
        else:
            self._accept(listener)

    def _leave_alone(self, listener: socket.socket, seconds: float) -> None:
        self._loop.remove_reader(listener.fileno())
        self._later(seconds, self._again, listener)

    def _again(self, listener: socket.socket) -> None:
        """Nobody else may have come for it: then it is taken here, whatever would be fair."""
        self._listen(listener)
        self._accept(listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                _keep_some(listener)
                taken, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if not self._out_of_means:
                    _log.error("connections cannot be taken for now: %s", error.strerror)
                self._out_of_means = True
                self._leave_alone(listener, _OUT_OF_MEANS_S)
                return
            self._out_of_means = False
            taken.setblocking(False)
            if taken.family in (socket.AF_INET, socket.AF_INET6):
                taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._open(taken))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
            self._tell()
            if self._shares.excess:
                return

    async def _open(self, taken: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make, taken, **self._secured)
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            _log.debug("a connection did not come about: %s", error)
            taken.close()

    def _later(self, seconds: float, act: Callable[..., None], *given: object) -> None:
        def due() -> None:
            self._timers.discard(timer)
            if not self._closed:
                act(*given)

        timer = self._loop.call_later(seconds, due)
        self._timers.add(timer)


def _keep_some(listener: socket.socket) -> None:
    """Raise OSError where one more connection would take a descriptor that is kept.

    The system gives the lowest number that is free: it tells how many are not.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(listener.fileno())
    os.close(free)
    if most >= 0 and free >= most - min(most // _KEPT_SHARE, _MOST_KEPT):  # below 0: no limit
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
