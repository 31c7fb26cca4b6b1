"""The memory of this process: segments that the master lent, and what the heap need not keep."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import threading
from typing import Dict, Iterator, List, Set, Tuple

from serving.backends.base import Backend, BackendError, DeviceLost
from serving.channel.messages import Lend
from serving.channel.segment import Segment

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_USUAL_TRIM_BYTES = 128 << 10
_LARGEST_KEPT_BYTES = 32 << 20
"""glibc's own numbers: the former at first, the latter is the most that it learns by itself."""

_log = logging.getLogger("serving.worker")


class Mappings:
    """Segments by number, shared by the slots; each slot is lent and forgets on its own.

    The backends of the process learn of every segment: a device may want it registered. What one
    would not take is not asked back of it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._segments: Dict[int, Segment] = {}
        self._lent: Dict[int, int] = {}
        self._backends: List[Tuple[Backend, Set[int]]] = []

    def join(self, backend: Backend) -> None:
        """Tell a backend of every segment that is there, and of all that come; see ``lend``."""
        with self._lock:
            known: Set[int] = set()
            for segment in self._segments.values():
                _lend(backend, known, segment)
            self._backends.append((backend, known))

    def lend(self, message: Lend, fd: int) -> None:
        """Map a segment, or count one more slot that was lent it. Raises DeviceLost."""
        with self._lock:
            self._lent[message.segment] = self._lent.get(message.segment, 0) + 1
            segment = Segment.attach(message.segment, message.size, fd, writable=message.writable)
            if message.segment in self._segments:
                segment.close()
                return
            self._segments[message.segment] = segment
            for backend, known in self._backends:
                _lend(backend, known, segment)

    def forget(self, segment_id: int) -> None:
        """Unmap a segment once every slot that was lent it has forgotten it. Raises DeviceLost."""
        with self._lock:
            self._lent[segment_id] -= 1
            if self._lent[segment_id] == 0:
                del self._lent[segment_id]
                segment = self._segments.pop(segment_id)
                for backend, known in self._backends:
                    if segment.id in known:
                        known.discard(segment.id)
                        backend.take_back(segment.address)
                segment.close()

    def get(self, segment_id: int) -> Segment:
        """Return a mapped segment."""
        return self._segments[segment_id]


def _lend(backend: Backend, known: Set[int], segment: Segment) -> None:
    """Tell a backend of a segment; one that cannot register it still runs, by way of a copy."""
    try:
        backend.lend(segment.address, segment.size, writable=segment.writable_elsewhere)
        known.add(segment.id)
    except DeviceLost:
        raise
    except BackendError as error:
        _log.warning("%d bytes of shared memory are not registered: %s", segment.size, error)


@contextlib.contextmanager
def giving_back(*, all_of_it: bool) -> Iterator[None]:
    """Return to the system what is freed within; ``all_of_it`` also looks for what was before.

    The allocator keeps freed memory for the next of that size, and the end of a thread's heap even
    when it is asked for all: of models below 32 MiB one or two stayed that way. Other libraries
    than glibc have none of these calls, and go on as they do.
    """
    libc = ctypes.CDLL(None)
    mallopt, trim = getattr(libc, "mallopt", None), getattr(libc, "malloc_trim", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _USUAL_TRIM_BYTES)
    try:
        yield
        if all_of_it:
            gc.collect()
            if trim is not None:
                trim(0)
                _trim_own_heap(libc)
    finally:
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
            mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_KEPT_BYTES)


def _trim_own_heap(libc: ctypes.CDLL) -> None:
    """Return the end of this thread's heap, which ``malloc_trim`` leaves alone.

    It is looked at whenever as much as this is freed. What loading a model took for a while stood
    there otherwise, as much as the model, until something of that size was freed again.
    """
    libc.malloc.restype = ctypes.c_void_p
    libc.free(ctypes.c_void_p(libc.malloc(_USUAL_TRIM_BYTES)))
