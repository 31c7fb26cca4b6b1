"""A timer that is exact to microseconds: the event loop's own counts in milliseconds."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Callable

# <linux/timerfd.h>; Python has timerfd_create since 3.13 only.
_CLOCK_MONOTONIC = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class _Spec(ctypes.Structure):
    """``struct itimerspec``: the interval (zero: once) and the time until it expires."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "s", "ns")]


_libc = ctypes.CDLL(None, use_errno=True)


class Alarm:
    """Calls back once, on the running event loop, after each ``set``."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._fd = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._armed = False
        self._spec = _Spec()

    def set(self, delay_s: float | None) -> None:
        """Ring after ``delay_s`` seconds instead of when it would have; ``None``: not at all."""
        if delay_s is None:
            if not self._armed:
                return
            ns = 0
        else:
            ns = max(1, int(delay_s * 1e9))
        if self._fd < 0:
            self._open()
        self._armed = ns > 0
        self._spec.s, self._spec.ns = divmod(ns, 10**9)
        if _libc.timerfd_settime(self._fd, 0, ctypes.byref(self._spec), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Never ring again."""
        if self._fd >= 0:
            if self._loop is not None:
                self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        self._armed = False

    def _open(self) -> None:
        self._fd = _libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._ring)

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
            self._armed = False
            self._callback()
