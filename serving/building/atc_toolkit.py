"""The CANN toolkit of this machine: where ``atc`` is, of which version, and what chip is here."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import shutil
from pathlib import Path
from typing import Iterator

from serving.errors import LoadError

_VERSION = re.compile(r"^\s*(?:\w*_)?version\s*=\s*\[?\s*([\w.\-]+)", re.IGNORECASE | re.MULTILINE)
_FILES = ("*/ascend_toolkit_install.info", "compiler/version.info", "version.cfg", "version.info")
_MOST_BYTES = 1 << 16


def find_atc() -> str:
    """Return the path of ``atc``; raises LoadError where it is not to be had."""
    found = shutil.which("atc")
    if found is None:
        raise LoadError(
            "atc is not on PATH: models are compiled for Ascend devices by the CANN toolkit",
            code="toolkit_missing",
            fix="install the CANN toolkit (Ascend-cann-toolkit) and source its set_env.sh first, "
            "or set PATH in [backends.ascend] env",
        )
    return found


def version(atc: str) -> str:
    """Return CANN's version as its files tell it, else a digest that changes with ``atc``."""
    for folder in _folders(atc):
        for pattern in _FILES:
            for file in sorted(folder.glob(pattern)):
                text = file.read_bytes()[:_MOST_BYTES].decode("utf-8", "replace")
                found = _VERSION.search(text)
                if found:
                    return found.group(1)
    status = os.stat(atc)
    seen = f"{os.path.realpath(atc)} {status.st_size} {status.st_mtime_ns}"
    return "unknown-" + hashlib.sha256(seen.encode()).hexdigest()[:12]


def soc_of_device() -> str:
    """Return the name of this machine's chip; raises LoadError where there is none."""
    fix = "name the chip: soc_version in [options.ascend], or --soc of serving convert"
    try:
        acl = importlib.import_module("acl")
    except ImportError as error:
        raise LoadError(
            f"no Ascend chip to compile for: Python's acl is missing ({error})",
            code="no_chip",
            fix=fix,
        ) from None
    code = acl.init()
    try:
        soc = acl.get_soc_name()
    finally:
        if not code:
            acl.finalize()
    if not soc:
        raise LoadError(
            "no Ascend chip to compile for: CANN finds no device", code="no_chip", fix=fix
        )
    return str(soc)


def _folders(atc: str) -> Iterator[Path]:
    """Yield where the toolkit may have its root."""
    for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH"):
        if os.environ.get(name):
            yield Path(os.environ[name])
    yield from list(Path(os.path.realpath(atc)).parents)[1:3]
