"""How a module of this package is run by a Python interpreter, perhaps one of another environment.

Such an interpreter must find this package without finding what is installed beside it: numpy and
others are built for one version of Python. So the package is put in place by its own path.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import serving

_BOOT = """\
import importlib.util, runpy, sys
if sys.path and sys.path[0] == "": del sys.path[0]
folder, module = sys.argv[1:3]
del sys.argv[1:3]
spec = importlib.util.spec_from_file_location(
    "serving", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["serving"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""numpy's OpenBLAS starts a thread a core, which waits for work with all its might for 60 ms."""


_NO_TELEMETRY = {"ORT_DISABLE_TELEMETRY": "1"}
"""ONNX Runtime's official builds report to their maker over HTTPS, from a file in the home folder
that numbers the machine, unless this is set before they are imported."""


def environment(own: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Return the environment that a module runs in, ``own`` variables among others.

    A numpy.py in the working directory (perhaps a model repository) is no module of ours. None of
    ours does with OpenBLAS what takes threads, and none reports to anybody; who has set either is
    obeyed.
    """
    return {**_ONE_THREAD, **_NO_TELEMETRY, **os.environ, **own, "PYTHONSAFEPATH": "1"}


def import_numpy() -> None:
    """Import numpy into this process without those threads; who runs in it later is not told."""
    missing = {name: value for name, value in _ONE_THREAD.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        importlib.import_module("numpy")
    finally:
        for name in missing:
            del os.environ[name]


def command(interpreter: str, module: str) -> tuple[str, ...]:
    """Return the words that run a module; its own arguments follow them."""
    if interpreter == sys.executable:
        return (interpreter, "-m", module)
    assert serving.__file__ is not None
    return (interpreter, "-c", _BOOT, str(Path(serving.__file__).parent), module)
