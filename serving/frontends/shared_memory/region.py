"""A range of a client's POSIX shared memory object: opened by its key, read and written by copies.

The object belongs to the client, who may cut it short at any time. A mapping of it would then end
this process with SIGBUS, so nothing is mapped: ``preadv`` and ``pwritev`` come back short instead,
and that is an error of one request. Any thread may read and write; large tensors are copied by the
worker that runs them, which gets the descriptor for it (``span``).
"""

from __future__ import annotations

import os
import stat
import weakref

import numpy as np

from serving.errors import InvalidRequest, NotFound, RegionRange
from serving.request import FileSpan

LONGEST_KEY_BYTES = 255
"""What the kernel takes as one name."""

_FOLDER = "/dev/shm"
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""Without O_NONBLOCK opening a FIFO would wait for its other end."""


class Region:
    """``size`` bytes from ``offset`` on of the object called ``key``; ``name`` is for errors.

    ``number`` is that of one which is registered: every process of the server knows it by that.

    The descriptor is closed with the last one who holds the region: whoever uses it holds it, so
    that no other file can have taken the descriptor's number meanwhile.
    """

    __slots__ = ("__weakref__", "_fd", "key", "name", "number", "offset", "size")

    def __init__(
        self, name: str, key: str, offset: int, size: int, fd: int, number: int = 0
    ) -> None:
        self.name = name
        self.key = key
        self.offset = offset
        self.size = size
        self.number = number
        self._fd = fd
        weakref.finalize(self, os.close, fd)

    @staticmethod
    def open(name: str, key: str, offset: int, size: int, where: str, number: int = 0) -> Region:
        """Open an object and see that it has that range.

        Raises InvalidRequest for a key that is no name, or a range that is not within the object;
        NotFound for anything but a plain object of the user that this server runs as. That is one
        error, lest it shows what other users have.
        """
        region = Region(name, key, offset, size, _opened(key, where), number)
        if offset < 0 or size < 1:
            raise _outside("a region has no such range", region, 0, size, where)
        region.check(0, size, where)
        return region

    @property
    def fd(self) -> int:
        """The object's descriptor, open for as long as the region is held."""
        return self._fd

    def check(self, at: int, size: int, where: str) -> None:
        """Raise InvalidRequest unless ``size`` bytes from ``at`` on are within region and object.

        Called before each use: the object may be shorter than it was when it was registered.
        """
        if at < 0 or size < 0 or at + size > self.size:
            text = "the range is not within its shared memory region"
            raise _outside(text, self, at, size, where, f"{self.size} bytes in the region")
        there = os.fstat(self._fd).st_size
        if self.offset + at + size > there:
            text = "the shared memory object is shorter than the range"
            raise _outside(text, self, at, size, where, f"{there} bytes in the object")

    def span(self, at: int, size: int) -> FileSpan:
        """Return the place of ``size`` bytes in the object, for whoever copies them himself."""
        return FileSpan(self, self._fd, self.offset + at, size)

    def read(self, at: int, size: int, where: str) -> memoryview:
        """Return a private copy of ``size`` bytes from ``at`` on; raises InvalidRequest."""
        self.check(at, size, where)
        data = np.empty(size, np.uint8).data
        done = 0
        while done < size:
            got = os.preadv(self._fd, [data[done:]], self.offset + at + done)
            if not got:
                text = "the shared memory object was cut short while it was read"
                raise _outside(text, self, at, size, where, f"{done} bytes")
            done += got
        return data

    def write(self, at: int, data: bytes | memoryview, where: str) -> None:
        """Write bytes from ``at`` on; raises InvalidRequest.

        An object that is cut short at this very moment grows again: it is the client's own.
        """
        size = len(data)
        self.check(at, size, where)
        rest = memoryview(data)
        done = 0
        while done < size:
            try:
                done += os.pwritev(self._fd, [rest[done:]], self.offset + at + done)
            except OSError as error:
                text = f"the shared memory region cannot be written: {error.strerror}"
                raise _outside(text, self, at, size, where, f"{done} bytes") from None


def _opened(key: str, where: str) -> int:
    name = _file_name(key, where)
    try:
        folder = os.open(_FOLDER, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        raise _missing(key, where) from None
    try:
        fd = os.open(name, _FLAGS, dir_fd=folder)
    except OSError:
        raise _missing(key, where) from None
    finally:
        os.close(folder)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        os.close(fd)
        raise _missing(key, where)
    return fd


def _file_name(key: str, where: str) -> str:
    name = key.removeprefix("/")
    good = name.isprintable() and "/" not in name and name not in ("", ".", "..")
    try:
        good = good and len(name.encode()) <= LONGEST_KEY_BYTES
    except UnicodeEncodeError:  # a lone surrogate
        good = False
    if not good:
        raise InvalidRequest(
            "the key is not the name of a shared memory object",
            code="bad_region_key",
            where=where,
            expected=f"'/name' or 'name', at most {LONGEST_KEY_BYTES} bytes, as shm_open takes it",
            given=repr(key[:80]),
        )
    return name


def _missing(key: str, where: str) -> NotFound:
    return NotFound(
        f"no shared memory object {key[:80]!r} can be opened",
        code="no_shared_memory_object",
        where=where,
        expected="an object of the user that this server runs as",
        fix="create it before it is named here",
    )


def _outside(
    text: str, region: Region, at: int, size: int, where: str, given: str = ""
) -> RegionRange:
    return RegionRange(
        text,
        where=where,
        expected=f"{size} bytes at offset {at} of {region.name} (which begins at {region.offset})",
        given=given,
    )
