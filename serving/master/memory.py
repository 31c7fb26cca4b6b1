"""What memory the machine (or the container) has left, and what a process holds of it."""

from __future__ import annotations

import os
from pathlib import Path


def available_mb() -> int:
    """Return MiB that can still be used: the kernel's estimate, or the cgroup's if it is less."""
    free = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) >> 10
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    if limit is not None and used is not None:
        free = min(free, max(0, limit - used) >> 20)
    return free


def resident_mb(pid: int) -> int:
    """Return MiB of memory that a process holds; 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def own_mb(pid: int) -> int:
    """Return MiB that a process holds for itself: no files, nothing shared; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    except OSError:
        return 0
    _, _, rest = text.partition("RssAnon:")
    return int(rest.split()[0]) >> 10 if rest else 0


def _cgroup(name: str) -> int | None:
    try:
        text = (Path("/sys/fs/cgroup") / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
