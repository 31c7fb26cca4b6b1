"""Where large bodies are received: memory of this process, or what a front end has been lent.

A front-end process has them received into memory that it shares with the master, so that their
tensors need not be copied to get there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

LEAST_BYTES = 64 * 1024
"""Smaller bodies are received anywhere: to copy them costs less than to keep a place for them."""


def _private(nbytes: int) -> memoryview:
    # Not a bytearray, which writes zeros: pages that nothing was written to take no memory.
    return np.empty(nbytes, np.uint8).data


_give: Callable[[int], memoryview] = _private


def room(nbytes: int) -> memoryview:
    """Return room for a body; it is its own owner's, who gives it back by forgetting it."""
    return _give(nbytes) if nbytes >= LEAST_BYTES else _private(nbytes)


def take_from(give: Callable[[int], memoryview]) -> None:
    """Have large bodies received into what ``give`` returns; once, when the process begins."""
    global _give
    _give = give
