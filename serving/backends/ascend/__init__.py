"""OM models on Ascend devices, by pyACL: CANN's module ``acl``.

Files, from the bottom: ``options`` (their names), ``constants`` (numbers that pyACL does not
export), ``failure`` (codes become exceptions), ``gears`` (which sizes a model takes; pure),
``description`` (what a loaded model says of itself), ``buffers`` (memory of one side of a run),
``model`` (a loaded model and its runs), ``device`` (the backend). Written from CANN's documents and
open sources and tested on a double of ``acl``; no part of it has run on a device yet.
"""

from __future__ import annotations

from serving.backends.base import Backend, Device


def open(device: Device) -> Backend:
    """Take hold of a device; raises BackendError with CANN's reason, ImportError without CANN."""
    from serving.backends.ascend import device as held  # the options are read without CANN

    return held.open(device)
