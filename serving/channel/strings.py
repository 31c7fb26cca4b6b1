"""Strings in a segment: entries of (offset, length) and the bytes they point to."""

from __future__ import annotations

from typing import List, Sequence

import numpy as np

from serving.tensor import Array


def write(segment: Array, entries_at: int, heap_at: int, items: Sequence[bytes]) -> int:
    """Write entries at ``entries_at`` and the bytes from ``heap_at`` on; return the heap's end."""
    lengths = np.fromiter(map(len, items), np.uint64, len(items))
    ends = np.cumsum(lengths, dtype=np.uint64) + np.uint64(heap_at)
    entries = np.empty((len(items), 2), "<u8")
    entries[:, 0] = ends - lengths
    entries[:, 1] = lengths
    segment[entries_at : entries_at + entries.nbytes] = entries.reshape(-1).view(np.uint8)
    text = b"".join(items)
    end = heap_at + len(text)
    segment[heap_at:end] = np.frombuffer(text, np.uint8)
    return end


def read(segment: Array, entries_at: int, count: int) -> List[bytes]:
    """Read ``count`` strings; raises ValueError when an entry points outside the segment."""
    entries = segment[entries_at : entries_at + 16 * count].view("<u8").reshape(count, 2)
    size = segment.size
    memory = segment.data
    items = []
    for offset, length in entries.tolist():
        if offset + length > size:
            raise ValueError("a string entry points outside its segment")
        items.append(bytes(memory[offset : offset + length]))
    return items
