"""Three kinds of memory, kept apart: the host's, the host's pinned, and the device's.

Device addresses lie where no process has memory, so that only ``memcpy`` reaches what is there.
New memory is full of poison.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

import numpy as np

from acl._world import World

HOST, PINNED, DEVICE = "host", "pinned", "device memory"
POISON = 0xA5
_DEVICE_BASE, _DEVICE_END = 0x1000_0000_0000_0000, 0x1100_0000_0000_0000
_GUARD = 4096
SIDES = {0: (HOST, HOST), 1: (DEVICE, HOST), 2: (HOST, DEVICE), 3: (DEVICE, DEVICE)}
"""By kind of copy: destination, source; pinned memory is the host's."""


@dataclass
class Block:
    """A piece of memory: where callers see it, how much they asked for, and its bytes."""

    address: int
    size: int
    data: np.ndarray
    taken: int


class Borrowed:
    """Bytes objects whose addresses were given out: nobody but their owner keeps them alive."""

    def __init__(self) -> None:
        self._lent: list[bytes] = []

    def lend(self, value: bytes) -> int:
        self._lent.append(value)
        return ctypes.cast(ctypes.c_char_p(value), ctypes.c_void_p).value or 0

    def outlived(self, address: int) -> bool:
        """Tell if an address is of an object that only this list still knows."""
        for index in range(len(self._lent)):
            start = ctypes.cast(ctypes.c_char_p(self._lent[index]), ctypes.c_void_p).value or 0
            within = start <= address < start + max(len(self._lent[index]), 1)
            # The list and getrefcount's own argument; anything above is an owner.
            if within and sys.getrefcount(self._lent[index]) <= 2:
                return True
        return False


BORROWED = Borrowed()


def take_device(here: World, size: int, padded: int) -> int:
    """Return the address of new device memory, 0 where the device has no more."""
    device = here.device()
    with here.lock:
        if here.used[device] + padded > here.capacity:
            return 0
        here.used[device] += padded
        address = _DEVICE_BASE + (device << 48) + here.device_top
        here.device_top += -(-padded // _GUARD) * _GUARD + _GUARD  # what lies between is nobody's
    data = np.full(padded, POISON, np.uint8)
    return here.make(DEVICE, Block(address, size, data, padded), handle=address)


def take_pinned(here: World, size: int) -> int:
    """Return the address of new pinned memory."""
    data = np.full(size + 64, POISON, np.uint8)
    address = -(-data.ctypes.data // 64) * 64
    start = address - data.ctypes.data
    return here.make(PINNED, Block(address, size, data[start : start + size], 0), handle=address)


def give_back(here: World, address: int, kind: str) -> None:
    """Free memory; its bytes are poison from now on."""
    thing = here.get(address, kind)
    device = thing.device
    here.drop(address, kind)
    thing.holds.data[:] = POISON
    here.used[device] -= thing.holds.taken


def region(here: World, address: int, count: int, side: str) -> tuple[str, np.ndarray]:
    """Return the kind and the bytes of a range; one that is not whole is a violation."""
    for thing in list(here.things.values()):
        if thing.kind in (PINNED, DEVICE):
            block = thing.holds
            if block.address <= address < block.address + max(block.size, 1):
                if address + count > block.address + block.size:
                    raise here.violation(
                        f"{count} bytes at {address:#x} go beyond the {block.size} allocated there"
                    )
                at = address - block.address
                return _checked(here, thing.kind, side), block.data[at : at + count]
    if _DEVICE_BASE <= address < _DEVICE_END:
        raise here.violation(f"{address:#x} is device memory that is not allocated")
    if BORROWED.outlived(address):
        raise here.violation(f"{address:#x} is of a bytes object that is gone")
    kind = _checked(here, HOST, side)
    return kind, np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(address))


def owner(here: World, address: int) -> int:
    """Return the handle of the pinned or device memory that holds an address; 0 for none."""
    for thing in list(here.things.values()):
        if thing.kind in (PINNED, DEVICE):
            block = thing.holds
            if block.address <= address < block.address + max(block.size, 1):
                return thing.handle
    return 0


def _checked(here: World, kind: str, side: str) -> str:
    if (kind == DEVICE) != (side == DEVICE):
        raise here.violation(f"a copy takes {kind} for the {side}'s")
    return kind
