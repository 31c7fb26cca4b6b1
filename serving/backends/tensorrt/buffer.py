"""A span of memory of our own that grows: on the device, or pinned on the host."""

from __future__ import annotations

import ctypes
from typing import Any, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from serving.backends.base import BackendError
from serving.backends.tensorrt.cuda import Cuda, again, attempt

ALIGNMENT = 256  # what cudaMalloc gives; TensorRT asks for no more


class Buffer:
    """Owns one allocation; ``address`` is 0 until ``fit`` was called."""

    def __init__(self, cuda: Cuda, *, pinned: bool) -> None:
        self._cuda = cuda
        self._pinned = pinned
        self.address = 0
        self.size = 0

    def fit(self, nbytes: int) -> bool:
        """Hold at least so many bytes; True if the address changed, and the content is gone.

        The old memory goes first, so that both need not fit. Raises MemoryExhausted.
        """
        if self.address and nbytes <= self.size:
            return False
        error = self.free()
        if error is not None:
            raise again(error)
        # TensorRT wants an address even for a tensor without elements.
        size = aligned(max(nbytes, 1))
        if self._pinned:
            self.address = int(self._cuda.call("cudaHostAlloc", size, 0))
        else:
            self.address = int(self._cuda.call("cudaMalloc", size))
        self.size = size
        return True

    def bytes(self, offset: int, nbytes: int) -> NDArray[Any]:
        """Return a part of pinned memory as a flat array."""
        span = (ctypes.c_uint8 * nbytes).from_address(self.address + offset)
        return np.ctypeslib.as_array(span)

    def free(self) -> Optional[BackendError]:
        """Give the memory back; returns what went wrong. It is let go of in any case."""
        address, self.address, self.size = self.address, 0, 0
        if not address:
            return None
        return attempt(self._cuda.call, "cudaFreeHost" if self._pinned else "cudaFree", address)


def aligned(nbytes: int) -> int:
    """Return the size rounded up to where a next span may begin."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def packed(sizes: "list[int]") -> Tuple["list[int]", int]:
    """Return the offsets of spans one behind the other, and the whole length."""
    offsets, at = [], 0
    for size in sizes:
        offsets.append(at)
        at += aligned(size)
    return offsets, at
