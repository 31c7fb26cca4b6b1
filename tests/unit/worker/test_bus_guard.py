"""Copies in mappings of files that are cut short: in processes of their own, for signals are."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

BEGIN = """
import mmap, os, threading, time
import numpy as np
from serving.channel.messages import Copy
from serving.worker.bus_guard import BusGuard, Mapped
from serving.worker.client_files import ClientFiles, CutShort

SIZE = 1 << 20
guard = BusGuard()
guard.install()
fd = os.memfd_create("client")
data = np.random.default_rng(1).integers(0, 256, SIZE, np.uint8)
os.pwrite(fd, data, 0)
memory = np.full(SIZE, 7, np.uint8)
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("into", [False, True])
def test_copy_of_a_file_that_was_cut_short_ends_and_is_spoiled(into: bool) -> None:
    ended = run(f"""
mapped = Mapped(mmap.mmap(fd, SIZE))
os.ftruncate(fd, 100_000)
guard.copy(mapped, fd, 0, memory, into={into})
assert mapped.spoiled
if not {into}:
    assert (memory == 0).any()
again = os.memfd_create("another")
os.pwrite(again, data, 0)
whole = Mapped(mmap.mmap(again, SIZE))
guard.copy(whole, again, 0, memory)
assert (memory == data).all() and not whole.spoiled
""")
    assert ended.returncode == 0, ended.stderr


def test_fault_that_no_copy_explains_ends_the_process() -> None:
    ended = run("""
mapped = Mapped(mmap.mmap(fd, SIZE))
os.ftruncate(fd, 0)
threading.Thread(target=np.copyto, args=(memory, mapped.bytes)).start()
time.sleep(30)
""")
    assert ended.returncode == -signal.SIGBUS, ended.stderr


def test_copies_while_a_file_is_cut_and_grows_are_right_or_refused() -> None:
    ended = run("""
files = ClientFiles(guard)
copy = Copy(0, 0, 4096, 0, SIZE - 4096)
done = threading.Event()

def flap():
    while not done.is_set():
        os.ftruncate(fd, 4096)
        time.sleep(0.0001)
        os.ftruncate(fd, SIZE)
        os.pwrite(fd, data, 0)
        time.sleep(0.0003)

thread = threading.Thread(target=flap)
thread.start()
other = os.memfd_create("other")
os.pwrite(other, data, 0)
refused = served = 0
until = time.monotonic() + 3
while time.monotonic() < until:
    for fds in ((fd,), (other,)):
        memory[:] = 7
        try:
            files.read(fds, copy, memory, "x")
            served += fds == (fd,)
        except CutShort as error:
            assert fds == (fd,), error
            assert "bytes in the object" in str(error)
            refused += 1
        if fds == (other,):
            assert (memory[: copy.nbytes] == data[4096:]).all()
done.set()
thread.join()
assert refused and served, (refused, served)
""")
    assert ended.returncode == 0, ended.stderr


def test_place_is_copied_in_a_mapping_from_its_second_use_on_until_it_is_forgotten() -> None:
    ended = run("""
def mapped():
    return sum("memfd:client" in line for line in open("/proc/self/maps"))

files = ClientFiles(guard)
copy = Copy(0, 0, 4096, 64, 100_000)
seen = []
for _ in range(3):
    memory[:] = 7
    files.read((fd,), copy, memory, "x")
    assert (memory[64:100_064] == data[4096:104_096]).all()
    assert (memory[:64] == 7).all() and (memory[100_064:] == 7).all()
    seen.append(mapped())
for number in range(3):
    memory[:] = number
    files.write((fd,), copy, memory, "y")
    assert os.pread(fd, 100_000, 4096) == bytes([number]) * 100_000
files.forget()
assert seen + [mapped()] == [0, 1, 1, 0], seen
""")
    assert ended.returncode == 0, ended.stderr
