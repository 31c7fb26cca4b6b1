"""``mindspore_serving.server.master.context``: what holds for all servables."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["set_max_enqueued_requests"]  # noqa: F822  (see __getattr__)


def __getattr__(name: str) -> Any:
    """Import the server when it is asked for."""
    if name in __all__:
        return getattr(importlib.import_module("serving.api.server"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
