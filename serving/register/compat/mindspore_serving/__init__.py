"""MindSpore Serving's import name, for scripts and servables that were written for it.

A real MindSpore Serving that is installed comes first on ``sys.path``, and is imported instead.
"""

from __future__ import annotations

from typing import NoReturn

_BEFORE_1_3 = {
    "master": "start_grpc_server(address) and start_restful_server(address) of",
    "worker": "ServableStartConfig and start_servables, or register, of",
}


def __getattr__(name: str) -> NoReturn:
    """Say what took the place of what scripts imported before MindSpore Serving 1.3."""
    if name in _BEFORE_1_3:
        raise ImportError(
            f"mindspore_serving.{name} went with MindSpore Serving 1.3: use {_BEFORE_1_3[name]} "
            "mindspore_serving.server",
            name=f"{__name__}.{name}",
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
