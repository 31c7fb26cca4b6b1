"""Puts the double of ``acl`` in place of the real one, in this process, for a while."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

from tests.doubles.om import ACL_FOLDER

ENVIRONMENT = {"PYTHONPATH": str(ACL_FOLDER)}
"""What a backend's settings would say to put it in place in other processes."""

_ENGINE, _BACKEND = "acl", "serving.backends.ascend"


@contextlib.contextmanager
def installed() -> Iterator[Any]:
    """Make ``import acl`` the double; yields its ``_double``, new and empty.

    The backend binds ``acl`` when it is imported, so it is imported anew here and forgotten after.
    """
    _forget()
    sys.path.insert(0, str(ACL_FOLDER))
    try:
        double = importlib.import_module(f"{_ENGINE}._double")
        double.renew()
        yield double
    finally:
        sys.path.remove(str(ACL_FOLDER))
        _forget()


@contextlib.contextmanager
def simulated_npu() -> Iterator[Any]:
    """Make ``import acl`` the double; yields its world, whose ``sleep_s`` every run takes."""
    with installed() as double:
        yield double.world()


def _forget() -> None:
    for name in list(sys.modules):
        if name in (_ENGINE, _BACKEND) or name.startswith((f"{_ENGINE}.", f"{_BACKEND}.")):
            del sys.modules[name]
