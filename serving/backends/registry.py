"""Backends by name; a backend's engine is imported when it is asked for, never before."""

from __future__ import annotations

import importlib
from typing import Dict

from serving.backends.base import Backend, BackendError, Device

_MODULES: Dict[str, str] = {
    "ascend": "serving.backends.ascend",
    "onnxruntime": "serving.backends.onnxruntime",
    "stub": "serving.backends.stub",
    "tensorrt": "serving.backends.tensorrt",
}


def open_backend(name: str, device: Device) -> Backend:
    """Import a backend and return it on a device; raises BackendError naming what is missing."""
    module = _MODULES.get(name)
    if module is None:
        raise BackendError(f"no backend is called {name!r}; known: {', '.join(sorted(_MODULES))}")
    try:
        backend: Backend = importlib.import_module(module).open(device)
    except ImportError as error:
        raise BackendError(
            f"the backend {name!r} needs a package that is missing: {error}"
        ) from error
    return backend
