"""What the system says of a process: processor time and resident memory, from ``/proc``."""

from __future__ import annotations

import os
import time
from pathlib import Path

from serving.statistics import ProcessUsage

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def usage_of(pid: int) -> ProcessUsage | None:
    """Return the usage of a process, None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    since_boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    return _parse(text, time.time() - since_boot_s)


def _parse(text: str, booted_s: float) -> ProcessUsage:
    """Read a line of ``/proc/PID/stat`` (proc_pid_stat(5)); ``booted_s`` is Unix time.

    The second field is the program's name in parentheses, which may hold anything.
    """
    fields = text.rpartition(")")[2].split()
    user, system, started, pages = (int(fields[n - 3]) for n in (14, 15, 22, 24))
    return ProcessUsage(
        cpu_s=(user + system) / _TICKS_PER_S,
        rss_bytes=pages * _PAGE_BYTES,
        started_s=booted_s + started / _TICKS_PER_S,
    )
