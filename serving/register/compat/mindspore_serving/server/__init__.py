"""``mindspore_serving.server``: everything is imported when it is asked for.

``register`` is all that a stage worker needs: neither servers nor protocols are imported with it.
"""

from __future__ import annotations

import importlib
from typing import Any

_SERVER = "serving.api.server"
_MODULES = ("register", "distributed", "master")

__all__ = [
    "start_grpc_server",
    "start_restful_server",
    "stop",
    "start_servables",
    "ServableStartConfig",
    "SSLConfig",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for: a module of this package, or a name of the server's."""
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in __all__:
        return getattr(importlib.import_module(_SERVER), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
