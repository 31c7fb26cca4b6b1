"""A process that the master has started: what it writes goes to the log, its end is seen at once.

It leads a process group of its own, so that whatever user code started in it ends with it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from serving import logs
from serving.master.worker_process import popen
from serving.repository.priority import give_way
from serving.scheduling.suspicion import Cause, Loss

_LINES_KEPT = 20
_LONGEST_LINE = 64 * 1024
_READ_BYTES = 64 * 1024
_MOST_LEFT = 16
"""So many reads empty the largest pipe that a process without privileges can have, 1 MiB."""
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Signals that a process does not send to itself: what it ran is not under suspicion."""


class Child:
    """Owns the process, its pidfd and its pipes. Event loop only.

    ``on_exit`` is called once, when the process has been reaped; ``gone`` is set then. What a
    ``mute`` one writes to its standard output goes nowhere.
    """

    def __init__(self, name: str, on_exit: Callable[[], None], *, mute: bool = False) -> None:
        self.name = name
        self.pid = 0
        self.gone = asyncio.Event()
        self.returncode = 0
        self._on_exit = on_exit
        self._mute = mute
        self._lines: collections.deque[str] = collections.deque(maxlen=_LINES_KEPT)
        self._pipes: list[_Pipe] = []

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        descriptors: Sequence[int],
        nice: int = 0,
    ) -> None:
        """Start it, with ``nice`` added to its niceness; raises OSError."""
        self.adopt(popen(command, environment, descriptors, mute=self._mute), nice)

    def adopt(self, process: subprocess.Popen[bytes], nice: int = 0) -> None:
        """Take over what ``popen`` has started."""
        self._process = process
        self.pid = process.pid
        give_way(self.pid, nice)
        outputs = (self._process.stdout, self._said), (self._process.stderr, self._complained)
        self._pipes = [_Pipe(pipe, on_line) for pipe, on_line in outputs if pipe is not None]
        self._pidfd = os.pidfd_open(self.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._exited)

    def kill(self) -> None:
        """End it and all that it has started."""
        if self.pid and not self.gone.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def ending(self) -> str:
        """Return how it ended, and the last line that it wrote outside of the log."""
        return "; it wrote last: ".join([self.loss.how, *self.last_lines(1)])

    def last_lines(self, most: int) -> list[str]:
        """Return the last lines that it wrote to its standard error outside of the log."""
        return list(self._lines)[-most:]

    @property
    def loss(self) -> Loss:
        """How it ended, as far as its exit status tells."""
        if self.returncode >= 0:
            return Loss(Cause.CRASHED, f"ended with status {self.returncode}")
        number = -self.returncode
        cause = Cause.ENDED if number in _FROM_OUTSIDE else Cause.CRASHED
        hint = " (the system's out-of-memory killer?)" if number == signal.SIGKILL else ""
        return Loss(cause, f"ended by {_name_of(number)}{hint}")

    def _said(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        if text:
            logging.getLogger("serving.stages").info("%s", text, extra={"worker": self.name})

    def _complained(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").strip()[:300]
        if text and not text.startswith("{"):
            self._lines.append(text)
        logs.relay(line, self.name)

    def _exited(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        # Before it is reaped: until then nobody else can have its number.
        self.kill()
        self.returncode = self._process.wait()
        for pipe in self._pipes:
            pipe.close()
        self.gone.set()
        self._on_exit()


def _name_of(number: int) -> str:
    """Return a signal's name; most real-time ones have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class _Pipe:
    """Cuts what comes out of a pipe into lines."""

    def __init__(self, pipe: IO[bytes], on_line: Callable[[bytes], None]) -> None:
        self._pipe = pipe
        self._fd = fd = pipe.fileno()
        self._on_line = on_line
        self._partial = b""
        self._loop = asyncio.get_running_loop()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._read)

    def close(self) -> None:
        """Read what is left; what a process outside of the group still writes is not waited for."""
        for _ in range(_MOST_LEFT):
            if not self._read():
                break
        self._loop.remove_reader(self._fd)
        self._pipe.close()
        if self._partial:
            self._on_line(self._partial)

    def _read(self) -> bool:
        """Return whether there was something."""
        try:
            chunk = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self._loop.remove_reader(self._fd)
            return False
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        if len(self._partial) > _LONGEST_LINE:
            lines.append(self._partial)
            self._partial = b""
        for line in lines:
            self._on_line(line)
        return True
