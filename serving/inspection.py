"""What the inspection helper is asked about a model file; one line of JSON each.

Written by the master and by commands, read by the helper. A key never travels: the helper is told
where it lies, and reads it itself.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DEC_MODES = ("AES-GCM", "AES-CBC", "SM4-CBC")


@dataclass(frozen=True)
class KeySource:
    """Where the key of an encrypted model lies: a variable of the environment, or a file.

    ``mode`` is one of ``DEC_MODES``, or empty to take what the file says.
    """

    env: str = ""
    file: str = ""
    mode: str = ""


@dataclass(frozen=True)
class Question:
    """One model file, and what may be done with it where it has to be converted.

    The converted model goes to ``output`` if that is given (``serving convert``); else, if the
    file is encrypted and ``private`` is given, to that path, which leads to memory; else into
    ``cache_dir``, which is kept within ``cache_bytes``; else, where that cannot be written, into
    the folder ``scratch``, which whoever asks removes in the end. Without any of them a file is
    only described as it would run, and nothing is kept.

    ``free`` asks for a copy of an ONNX file whose first axis is free, where that is fixed and can
    be freed; it needs ``cache_dir``.
    """

    path: Path
    key: KeySource | None = None
    cache_dir: str = ""
    cache_bytes: int = 0
    scratch: str = ""
    private: str = ""
    output: str = ""
    free: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return a form that survives JSON and ``from_json``; the path is absolute."""
        return {**asdict(self), "path": os.fspath(self.path.absolute())}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Question:
        """Rebuild what ``to_json`` wrote; raises KeyError, TypeError or ValueError."""
        fields = dict(data)
        key = fields.pop("key", None)
        path = Path(str(fields.pop("path")))
        return Question(path, None if key is None else KeySource(**key), **fields)


def hold_folder(folder: Path) -> int | None:
    """Return a descriptor that keeps a folder of the cache from being deleted; close it to let go.

    None: the folder is not there, or is being deleted.
    """
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if os.fstat(held).st_ino == os.stat(folder).st_ino:
            return held
    except OSError:
        pass
    os.close(held)
    return None
