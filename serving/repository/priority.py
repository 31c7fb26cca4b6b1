"""How far the processes that compute give way to the one that answers clients: their niceness.

The kernel lets whoever is nicer wait: beside two busy workers of equal niceness an answer that is
ready waits 3.5 ms for a core (p99 of 2 cores), beside workers of niceness 5 it waits 0.06 ms.
"""

from __future__ import annotations

import functools
import logging
import os

_LOG = logging.getLogger(__name__)

_NICEST = 19
_FURTHER_BACK = 10


def of_background(nice: int) -> int:
    """Return the niceness of what no client waits for, beside workers of niceness ``nice``.

    With 0, where nothing is to give way, this does not either.
    """
    return min(nice + _FURTHER_BACK, _NICEST) if nice else 0


def give_way(group: int, nice: int) -> None:
    """Add to the niceness of a process group just started, by the id of its leader.

    This is done from outside because threads have a niceness each, and imports start some: a
    process that did it for itself would come too late.
    """
    if not nice:
        return
    try:
        nicer = min(os.getpriority(os.PRIO_PROCESS, group) + nice, _NICEST)
        os.setpriority(os.PRIO_PGRP, group, nicer)
    except ProcessLookupError:
        pass  # it has ended already
    except OSError as error:
        _tell(error.strerror or type(error).__name__)


@functools.cache  # once: it will be so for all processes
def _tell(problem: str) -> None:
    _LOG.warning("workers and helpers do not give way to the server: %s", problem)
