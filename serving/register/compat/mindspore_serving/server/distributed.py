"""``mindspore_serving.server.distributed``: models that are spread over several devices."""

from __future__ import annotations

import importlib
from typing import Any

from serving.register.distributed import declare_servable

__all__ = ["declare_servable"]
_SERVER = ("start_servable", "startup_agents")


def __getattr__(name: str) -> Any:
    """Import the server's part when it is asked for."""
    if name in _SERVER:
        return getattr(importlib.import_module("serving.api.distributed"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
