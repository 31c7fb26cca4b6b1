"""One piece of shared memory without a name: a sealed memfd and this process's mapping of it.

Nothing is left behind after a ``kill -9``: the kernel frees the memory with its last holder.
Python 3.9 syntax; both the master (which creates) and workers (which map) use it.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from serving.channel.layout import Field
from serving.tensor import Array, DType, element_count

# From <linux/fcntl.h>; Python names the first three, the last only since 3.10 on some builds.
_ADD_SEALS = 1033
_SEAL_SEAL, _SEAL_SHRINK, _SEAL_GROW, _SEAL_FUTURE_WRITE = 1, 2, 4, 16

_VIEWS_KEPT = 16


class Segment:
    """A mapped span of shared memory; ``bytes`` is the mapping as a flat uint8 array.

    ``user`` is whom the arena lent it to last.
    """

    def __init__(
        self, id: int, size: int, fd: int, mapping: mmap.mmap, writable_elsewhere: bool
    ) -> None:
        self.id = id
        self.size = size
        self.fd = fd
        self.writable_elsewhere = writable_elsewhere
        self.user = 0
        self._mapping = mapping
        # np.frombuffer exports the mmap's buffer, so closing it too early raises instead of
        # leaving arrays that point nowhere.
        self.bytes: NDArray[Any] = np.frombuffer(mapping, dtype=np.uint8)
        self.address: int = self.bytes.__array_interface__["data"][0]
        self._views: Dict[int, List[Array]] = {}

    @staticmethod
    def create(id: int, size: int, *, writable_elsewhere: bool) -> "Segment":
        """Create a segment in the owning process.

        Raises MemoryError when there is no room, OSError when it may have no more files or
        mappings: one takes two files here.

        Pages are allocated at once: writing to a sparse file in a full cgroup or tmpfs is a
        SIGBUS, refusing here is an error that somebody can read.
        """
        fd = os.memfd_create("serving", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            try:
                os.posix_fallocate(fd, 0, size)
            except OSError as error:
                raise MemoryError(f"no room for {size} bytes of shared memory") from error
            mapping = mmap.mmap(fd, size)
            seals = _SEAL_SHRINK | _SEAL_GROW | _SEAL_SEAL
            if not writable_elsewhere:
                seals |= _SEAL_FUTURE_WRITE
            fcntl.fcntl(fd, _ADD_SEALS, seals)
        except BaseException:
            os.close(fd)
            raise
        return Segment(id, size, fd, mapping, writable_elsewhere)

    @staticmethod
    def attach(id: int, size: int, fd: int, *, writable: bool) -> "Segment":
        """Map a segment that another process lent; the descriptor is closed at once."""
        try:
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            mapping = mmap.mmap(fd, size, access=access)
        finally:
            os.close(fd)
        return Segment(id, size, -1, mapping, writable)

    def views(self, layout: int, fields: Sequence[Field], rows: int) -> "List[Array]":
        """Return the fields of a layout over this segment, all rows; empty for strings.

        They are kept for the next time: layouts come back, and making them costs more than the
        copy of a small row.
        """
        views = self._views.get(layout)
        if views is None:
            if len(self._views) >= _VIEWS_KEPT:
                self._views.clear()
            views = self._views[layout] = [_view_of(self, field, rows) for field in fields]
        return views

    def close(self) -> None:
        """Drop the mapping; arrays that still look into it keep it until they are gone."""
        self._views.clear()
        self.bytes = np.empty(0, np.uint8)
        self.address = 0
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        # An engine object may still export the pages; the mapping then goes with its last array.
        with contextlib.suppress(BufferError):
            self._mapping.close()


def _view_of(segment: Segment, field: Field, rows: int) -> Array:
    if field.dtype.is_bytes:
        return np.empty(0, np.uint8)
    shape = field.row_shape if field.axis is None else (rows, *field.row_shape)
    return view(segment, field.dtype, field.offset, shape)


def view(segment: Segment, dtype: DType, offset: int, shape: Tuple[int, ...]) -> Array:
    """Return an array over a segment, without copying."""
    assert dtype.numpy is not None
    end = offset + element_count(shape) * dtype.itemsize
    return segment.bytes[offset:end].view(dtype.numpy).reshape(shape)
