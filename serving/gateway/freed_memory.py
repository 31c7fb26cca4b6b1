"""Lets a process that receives large bodies keep the memory that it frees."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BLOCK_BYTES, _KEPT_BYTES = 32 << 20, 64 << 20


def keep_freed_memory() -> None:
    """Let blocks of the size of bodies be used again, as far as they fit into 64 MiB.

    By default glibc gives them back at once and has the kernel clear new pages for the next: of
    602 KB at 8 clients that was half of the CPU time of a request. Other libraries have no
    mallopt, and go on as they do.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BLOCK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
