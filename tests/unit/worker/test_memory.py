"""Segments stay mapped while any slot may still be asked to use them, and no longer."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from serving.channel.messages import Lend
from serving.channel.segment import Segment
from serving.worker.memory import Mappings


@pytest.fixture
def lent() -> Iterator[Segment]:
    segment = Segment.create(7, 4096, writable_elsewhere=True)
    yield segment
    segment.close()


def lend(mappings: Mappings, segment: Segment, *, writable: bool = True) -> None:
    message = Lend(segment.id, segment.size, writable)
    mappings.lend(message, os.dup(segment.fd))


def mapped() -> int:
    """Count this process's mappings of segments."""
    with open("/proc/self/maps") as maps:
        return sum("memfd:serving" in line for line in maps)


def test_mappings_show_the_memory_that_was_lent(lent: Segment) -> None:
    mappings = Mappings()
    lend(mappings, lent)
    mappings.get(7).bytes[5] = 99
    assert lent.bytes[5] == 99
    mappings.forget(7)


def test_mappings_of_inputs_cannot_be_written(lent: Segment) -> None:
    mappings = Mappings()
    lend(mappings, lent, writable=False)
    with pytest.raises(ValueError, match="read-only"):
        mappings.get(7).bytes[0] = 1
    mappings.forget(7)


def test_mappings_last_until_every_slot_has_forgotten(lent: Segment) -> None:
    mappings = Mappings()
    before, descriptors = mapped(), len(os.listdir("/proc/self/fd"))
    lend(mappings, lent)
    first = mappings.get(7)
    lend(mappings, lent)
    # One mapping for both slots: bindings of the engine hold addresses in it.
    assert mappings.get(7) is first
    assert mapped() == before + 1
    mappings.forget(7)
    assert mappings.get(7) is first
    mappings.forget(7)
    assert mapped() == before
    assert len(os.listdir("/proc/self/fd")) == descriptors
    with pytest.raises(KeyError):
        mappings.get(7)


def test_mappings_can_be_lent_again_after_they_were_forgotten(lent: Segment) -> None:
    mappings = Mappings()
    for value in (1, 2):
        lend(mappings, lent)
        lent.bytes[0] = value
        assert mappings.get(7).bytes[0] == value
        mappings.forget(7)


def test_mapping_outlives_its_forgetting_while_an_array_looks_into_it(lent: Segment) -> None:
    """An engine may hold rows a little longer; they must not point nowhere."""
    mappings = Mappings()
    lent.bytes[:4] = [1, 2, 3, 4]
    lend(mappings, lent)
    rows = mappings.get(7).bytes[:4].view("<u4")
    mappings.forget(7)
    assert rows.tolist() == np.array([1, 2, 3, 4], np.uint8).view("<u4").tolist()


FREED = """
import ctypes, sys, threading
from serving.worker.memory import giving_back

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def use(sizes):
    with giving_back(all_of_it=True):  # its own memory is not to lie behind theirs
        blocks = [libc.malloc(size) for size in sizes]
        for block, size in zip(blocks, sizes):
            libc.memset(block, 1, size)
        for block in blocks:
            libc.free(block)

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def in_a_thread(sizes):
    thread = threading.Thread(target=use, args=[sizes])
    thread.start()
    thread.join()

in_a_thread([1 << 20])
before = resident()
for _ in range(6):  # each thread may get another heap
    in_a_thread([20 << 20, *[3 << 20] * 5])
print(resident() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this libc is not glibc")
def test_memory_freed_by_any_thread_goes_back_to_the_system() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FREED], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) < 4 << 20
