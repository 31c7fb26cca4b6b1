"""How a module of this package is run by a Python interpreter, perhaps one of another environment.

Such an interpreter must find this package without finding what is installed beside it: numpy and
others are built for one version of Python. So the package is put in place by its own path.
"""

from __future__ import annotations

import sys
from pathlib import Path

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


def command(interpreter: str, module: str) -> tuple[str, ...]:
    """Return the words that run a module; its own arguments follow them."""
    if interpreter == sys.executable:
        return (interpreter, "-m", module)
    assert serving.__file__ is not None
    return (interpreter, "-c", _BOOT, str(Path(serving.__file__).parent), module)
