"""Puts the doubles of CUDA and TensorRT in place of the packages, for code of this process.

Other processes get them by their environment alone: ``ENVIRONMENT`` is what a backend's settings
would say.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_FOLDERS = (str(_HERE / "tensorrt"), str(_HERE / "cuda"))
_TAKEN = ("cuda", "tensorrt", "tensorrt_plan", "serving.backends.tensorrt")

ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(_FOLDERS)}


@contextlib.contextmanager
def simulated_gpu() -> Iterator[Any]:
    """Import the doubles, fresh; yields the machine (see ``cuda.simulated.machine.Machine``)."""
    before = _out_of_the_way()
    sys.path[:0] = _FOLDERS
    try:
        yield importlib.import_module("cuda.simulated.machine").MACHINE
    finally:
        _out_of_the_way()
        for folder in _FOLDERS:
            sys.path.remove(folder)
        sys.modules.update(before)


def _out_of_the_way() -> dict[str, Any]:
    names = [n for n in sys.modules if any(n == t or n.startswith(t + ".") for t in _TAKEN)]
    return {name: sys.modules.pop(name) for name in names}
