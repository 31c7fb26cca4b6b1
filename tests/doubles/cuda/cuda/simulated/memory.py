"""Memory as CUDA sees it: allocations on the device, pinned and registered ranges of the host."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 256
POISON = 0xDB


@dataclass(frozen=True)
class Span:
    """One live range; ``backing`` keeps the memory of an allocation, None for what is not ours."""

    address: int
    size: int
    read_only: bool = False
    backing: NDArray[np.uint8] | None = None

    def holds(self, address: int, nbytes: int) -> bool:
        return self.address <= address and address + nbytes <= self.address + self.size

    def meets(self, address: int, nbytes: int) -> bool:
        return address < self.address + self.size and self.address < address + nbytes


@dataclass
class Spans:
    """Live ranges of one kind, by address."""

    live: dict[int, Span] = field(default_factory=dict)

    def allocate(self, size: int) -> int:
        """Make poisoned memory, aligned as CUDA aligns it."""
        backing = np.full(size + ALIGNMENT, POISON, np.uint8)
        start = int(backing.__array_interface__["data"][0])
        address = -(-start // ALIGNMENT) * ALIGNMENT
        self.live[address] = Span(address, size, backing=backing)
        return address

    def find(self, address: int, nbytes: int) -> Span | None:
        """Return the live range that holds all these bytes."""
        return next((s for s in list(self.live.values()) if s.holds(address, nbytes)), None)

    def meeting(self, address: int, nbytes: int) -> Span | None:
        """Return a live range that shares a byte with these."""
        return next((s for s in list(self.live.values()) if s.meets(address, nbytes)), None)

    @property
    def total(self) -> int:
        return sum(span.size for span in self.live.values())


def view(address: int, nbytes: int) -> NDArray[np.uint8]:
    """Return bytes at an address that was checked before."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))


def mapped(address: int, nbytes: int, *, writable: bool) -> bool:
    """Ask the kernel whether this process may read (and write) a range."""
    at, end = address, address + nbytes
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, rights = line.split()[:2]
            low, high = (int(part, 16) for part in span.split("-"))
            if low <= at < high and "r" in rights and (not writable or "w" in rights):
                at = high
                if at >= end:
                    return True
    return False
