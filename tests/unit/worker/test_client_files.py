"""What a worker copies from and to files of clients, whole or cut short."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from serving.channel.messages import Copy
from serving.worker.client_files import ClientFiles, CutShort


@pytest.fixture
def file() -> Iterator[int]:
    fd = os.memfd_create("client")
    os.write(fd, bytes(range(100)))
    yield fd
    os.close(fd)


def test_bytes_are_copied_from_their_place_to_their_place(file: int) -> None:
    memory = np.zeros(64, np.uint8)
    ClientFiles().read((-1, file), Copy(1, 0, 90, 4, 10), memory, "x")
    assert memory.tolist() == [0] * 4 + list(range(90, 100)) + [0] * 50
    ClientFiles().write((file,), Copy(0, 0, 50, 4, 10), memory, "y")
    assert os.pread(file, 200, 0) == bytes([*range(50), *range(90, 100), *range(60, 100)])


def test_file_that_is_too_short_is_an_error_with_its_size(file: int) -> None:
    memory = np.zeros(64, np.uint8)
    with pytest.raises(CutShort, match=r"input 'x'.*20 bytes at offset 90.*given 100 bytes"):
        ClientFiles().read((file,), Copy(0, 0, 90, 0, 20), memory, "x")
    with pytest.raises(CutShort, match=r"output 'y'.*20 bytes at offset 90.*given 100 bytes"):
        ClientFiles().write((file,), Copy(0, 0, 90, 0, 20), memory, "y")
    assert os.fstat(file).st_size == 100, "a write does not make the client's file longer"


def test_file_that_cannot_be_written_is_an_error(file: int) -> None:
    read_only = os.open(f"/proc/self/fd/{file}", os.O_RDONLY)
    try:
        with pytest.raises(CutShort, match="cannot be written"):
            ClientFiles().write((read_only,), Copy(0, 0, 0, 0, 4), np.zeros(4, np.uint8), "y")
    finally:
        os.close(read_only)
