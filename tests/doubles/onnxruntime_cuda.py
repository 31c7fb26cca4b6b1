"""Puts the double of ``onnxruntime-gpu`` in place of ``onnxruntime``, for code of this process.

Other processes get it by their environment alone: ``ENVIRONMENT`` is what a backend's settings
would say.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FOLDER = str(Path(__file__).parent / "onnxruntime_gpu")
_TAKEN = ("onnxruntime", "serving.backends.onnxruntime")
"""Not what is below them: the engine's compiled part is loaded once in a process."""

ENVIRONMENT = {"PYTHONPATH": _FOLDER}


@contextlib.contextmanager
def simulated_onnxruntime_gpu() -> Iterator[None]:
    """Import the double, fresh, and the backend with it."""
    import serving.backends as package

    importlib.import_module("serving.backends.onnxruntime")
    before: dict[str, Any] = {name: sys.modules.pop(name) for name in _TAKEN}
    sys.path.insert(0, _FOLDER)
    try:
        yield
    finally:
        sys.path.remove(_FOLDER)
        sys.modules.update(before)
        package.onnxruntime = before["serving.backends.onnxruntime"]  # type: ignore[attr-defined]
