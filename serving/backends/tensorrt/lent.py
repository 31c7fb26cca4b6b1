"""Shared memory that the master lent, registered with the GPU so that it copies rows directly.

Where a range cannot be registered, that is decided once, here, with a line in the log, and its
rows go through pinned memory of our own.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Dict, List, Optional

from serving.backends.base import BackendError, DeviceLost
from serving.backends.tensorrt.cuda import Cuda, again, attempt, worst

_log = logging.getLogger("serving.tensorrt")

# From driver_types.h; cuda.bindings has no name for it before CUDA 11.1.
_DEFAULT, _READ_ONLY = 0, 8
_READ_ONLY_SUPPORTED = "cudaDevAttrHostRegisterReadOnlySupported"


@dataclass(frozen=True)
class Lent:
    """One range; ``refused`` says why the GPU does not reach it, empty if it does."""

    address: int
    nbytes: int
    refused: str


class LentMemory:
    """All ranges of this process; lent and taken back by any thread, asked at each bind."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._lock = threading.Lock()
        self._ranges: Dict[int, Lent] = {}
        self._read_only_supported = bool(cuda.attribute(_READ_ONLY_SUPPORTED))

    def lend(self, address: int, nbytes: int, *, writable: bool) -> None:
        """Register a range; raises DeviceLost, and BackendError if it was lent already."""
        self._cuda.use()
        with self._lock:
            if address in self._ranges:
                raise BackendError("this memory was lent before and not taken back")
            refused = self._register(address, nbytes, writable=writable)
            self._ranges[address] = Lent(address, nbytes, refused)
        if refused:
            _log.warning(
                "the GPU cannot reach %s shared memory (%s): its rows are copied once more, "
                "through pinned memory",
                "writable" if writable else "read-only",
                refused,
            )

    def take_back(self, address: int) -> None:
        """Unregister a range; nothing copies from or to it any more."""
        self._cuda.use()
        with self._lock:
            lent = self._ranges.pop(address, None)
            if lent is None:
                raise BackendError("this memory was not lent")
            error = self._unregister(lent)
        if error is not None:
            raise again(error)

    def reaches(self, address: int, nbytes: int) -> bool:
        """Tell whether the GPU may copy these bytes by itself."""
        with self._lock:
            return any(
                lent.address <= address and address + nbytes <= lent.address + lent.nbytes
                for lent in self._ranges.values()
                if not lent.refused
            )

    def close(self) -> Optional[BackendError]:
        """Unregister what was not taken back; returns what went wrong."""
        with self._lock:
            left: List[Lent] = list(self._ranges.values())
            self._ranges.clear()
        return worst([self._unregister(lent) for lent in left])

    def _register(self, address: int, nbytes: int, *, writable: bool) -> str:
        if not writable and not self._read_only_supported:
            return "this device registers no memory that may only be read"
        flags = _DEFAULT if writable else _READ_ONLY
        try:
            self._cuda.call("cudaHostRegister", address, nbytes, flags)
        except DeviceLost:
            raise
        except BackendError as error:
            return str(error)
        return ""

    def _unregister(self, lent: Lent) -> Optional[BackendError]:
        return (
            None if lent.refused else attempt(self._cuda.call, "cudaHostUnregister", lent.address)
        )
