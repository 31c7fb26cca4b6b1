"""``mindspore_serving.client``: a client for MindSpore Serving's protocol."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["Client", "SSLConfig"]


def __getattr__(name: str) -> Any:
    """Import the client when it is asked for."""
    if name in __all__:
        return getattr(importlib.import_module("serving.api.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
