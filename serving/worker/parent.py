"""What a process owes the master that started it."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_the_master(master: int, number: int = signal.SIGKILL) -> None:
    """Ask the kernel for a signal when the master dies: end of file needs a thread that runs."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != master:
        os._exit(0)  # it died before we asked


def offer_to_the_oom_killer(score: int) -> None:
    """Die before the master when memory runs out; 1000 is the first of all.

    A container may have set more, and less is not for everybody to set.
    """
    with open("/proc/self/oom_score_adj", "r+") as file:
        if int(file.read()) < score:
            file.seek(0)
            file.write(str(score))
