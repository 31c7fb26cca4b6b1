"""``mindspore_serving.server.master``: imported when it is asked for, as all of the server."""

from __future__ import annotations

import importlib
from typing import Any

_SERVER = "serving.api.server"

__all__ = ["context", "start_grpc_server", "start_restful_server", "stop", "SSLConfig"]


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name == "context":
        return importlib.import_module(f"{__name__}.context")
    if name in __all__:
        return getattr(importlib.import_module(_SERVER), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
