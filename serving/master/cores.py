"""How many cores this process may keep busy: those of its affinity, within its container's quota.

A quota is no mask: a process with a quota of two cores on a machine of 64 sees all 64, and an
engine that starts as many threads is stopped for most of each period. Sources: the kernel's
``Documentation/admin-guide/cgroup-v2.rst`` (``cpu.max``) and ``scheduler/sched-bwc.rst``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Return the number of cores to share out, at least 1."""
    return within(len(os.sched_getaffinity(0)), quota(_MOUNT, _MEMBERSHIP))


def busy_poll_us(asked: int) -> int:
    """Return how long a process may look out for messages: on one core it would be in the way."""
    return asked if usable_cores() > 1 else 0


def within(cores: int, quota: float | None) -> int:
    """Return the cores that a quota leaves; a part of a core is worth a thread."""
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def quota(mount: Path, membership: Path) -> float | None:
    """Return the smallest quota of the group and those above it, in cores, or ``None``.

    ``mount`` is where the groups are, ``membership`` the file that names this process's own. In a
    container the name may be one of the host's; the container's group is then the mount itself.
    """
    found = [cores for folder in _groups(mount, _text(membership)) for cores in _limits(folder)]
    return min(found, default=None)


def _groups(mount: Path, membership: str) -> Iterator[Path]:
    yield mount
    yield mount / "cpu"
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = mount / "cpu" if controllers else mount
        steps = [step for step in path.split("/") if step not in ("", "..")]
        for depth in range(1, len(steps) + 1):
            yield base.joinpath(*steps[:depth])


def _limits(folder: Path) -> Iterator[float]:
    """Yield the quota of one group: ``cpu.max`` (version 2) or ``cpu.cfs_*_us`` (version 1)."""
    given = _text(folder / "cpu.max").split()
    if not given:
        given = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if len(given) == 2 and all(number.isdigit() for number in given) and int(given[1]):
        yield int(given[0]) / int(given[1])


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
