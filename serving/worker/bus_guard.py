"""Outlives SIGBUS: what a process gets that touches a mapped file where its owner has cut it off.

A signal handler in Python does not help: it runs when the faulting instruction is through, which
would never be. But the interpreter's own handler, in C, leaves a byte for a thread that waits for
it, and returns; the instruction faults again, and so on, until that thread has put empty pages
where the file was. Then the copy ends, with zeros, and whoever made it learns that it is spoiled.

This works because copies of arrays let other threads run meanwhile. A SIGBUS that no copy is the
cause of ends the process, as ever.

Python 3.9 syntax.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import select
import signal
import threading
import time
from typing import Any, Dict, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.tensor import Array

_log = logging.getLogger("serving.worker")

LEAST = 16 << 10
"""Bytes of the smallest copy that is made in a mapping."""

_LOOK_AGAIN_S = 0.001
_QUIET_S = 0.005
_DOUBTS = 20
"""After so many signals, a millisecond apart, that no cut file explains, suspect any copy."""

_DESPAIR = 50
"""After so many it is none."""

_PRIVATE_FIXED_ANONYMOUS = 0x02 | 0x10 | 0x20


class Mapped:
    """A whole file as ``bytes``; ``spoiled`` once they are not the file's any more."""

    def __init__(self, mapping: mmap.mmap) -> None:
        self.bytes: NDArray[Any] = np.frombuffer(mapping, np.uint8)
        self.spoiled = False

    def spoil(self, at: int, end: int) -> None:
        """Put empty pages in the place of the file's. Raises OSError."""
        at -= at % mmap.PAGESIZE
        address = self.bytes.__array_interface__["data"][0] + at
        access = mmap.PROT_READ | mmap.PROT_WRITE
        put = _LIBC.mmap(address, end - at, access, _PRIVATE_FIXED_ANONYMOUS, -1, 0)
        if put != address:
            raise OSError(ctypes.get_errno(), "empty pages could not be put in place")
        self.spoiled = True


class _Copy(NamedTuple):
    """Bytes ``at .. end`` of a mapping, whose file is ``fd``, are being copied."""

    mapped: Mapped
    fd: int
    at: int
    end: int


class BusGuard:
    """One for a process: signals are. ``install`` it from the main thread, before any copy."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._copies: Dict[int, _Copy] = {}
        self._told, self._telling = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._telling, False)

    def install(self) -> None:
        """Watch from here on."""
        signal.signal(signal.SIGBUS, _nothing)
        signal.set_wakeup_fd(self._telling, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, daemon=True, name="bus guard").start()

    def copy(self, mapped: Mapped, fd: int, at: int, memory: Array, *, into: bool = False) -> None:
        """Fill ``memory`` from ``at`` on in a mapping, or the other way; ``fd`` is its file.

        At least ``LEAST`` bytes: of fewer the copy would not let other threads run.
        """
        assert memory.nbytes >= LEAST
        end = at + memory.nbytes
        theirs = mapped.bytes[at:end]
        me = threading.get_ident()
        with self._turn:
            self._copies[me] = _Copy(mapped, fd, at, end)
        try:
            if into:
                np.copyto(theirs, memory)
            else:
                np.copyto(memory, theirs)
        finally:
            with self._turn:
                del self._copies[me]

    def _watch(self) -> None:
        in_vain = 0
        while True:
            # What no cut file explains may be the last of what one did; it ends soon, then.
            if not select.select([self._told], [], [], _QUIET_S if in_vain else None)[0]:
                in_vain = 0
                continue
            if signal.SIGBUS not in os.read(self._told, 1 << 16):
                continue
            if self._spoil(in_vain):
                in_vain = 0
                continue
            in_vain += 1
            if in_vain > _DESPAIR:
                _log.error("SIGBUS, and no client's file explains it: the worker ends")
                _LIBC.signal(signal.SIGBUS, None)
            time.sleep(_LOOK_AGAIN_S)

    def _spoil(self, in_vain: int) -> bool:
        """Take the file out of the mappings that may be the cause; return whether there were."""
        found = False
        with self._turn:
            for copy in self._copies.values():
                cut_off = os.fstat(copy.fd).st_size < copy.end or in_vain >= _DOUBTS
                if cut_off:
                    copy.mapped.spoil(copy.at, copy.end)
                    found = True
        return found


def _nothing(_number: int, _frame: object) -> None:
    """Stand in for a handler: the work is done before it is called."""


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    ]  # fmt: skip
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal.restype = ctypes.c_void_p
    return libc


_LIBC = _libc()
