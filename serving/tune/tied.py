"""Becomes ``serving`` with the arguments given, stopped by the kernel when its parent ends.

``python -m serving.tune.tied PARENT ARGUMENT...``: a tuning that is killed must leave no server.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def become_serving(parent: int, arguments: list[str]) -> None:
    """Tie this process to its parent's end, and execute ``serving``."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)  # it ended before we asked
    os.execv(sys.executable, [sys.executable, "-m", "serving", *arguments])


if __name__ == "__main__":
    become_serving(int(sys.argv[1]), sys.argv[2:])
