"""Files that lie beside a servable's versions and are read whole: an example, names of classes."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_companion(file: Path, root: Path, most_bytes: int) -> bytes:
    """Return the bytes of a file; raises ValueError, whose text says what is wrong with it.

    Files that lie outside ``root``, where a link may lead, are not read.
    """
    try:
        real = file.resolve(strict=True)
        if not real.is_relative_to(root):
            raise ValueError("it is a link out of the model directory")
        if not stat.S_ISREG(real.stat().st_mode):
            raise ValueError("it is not a file")
        with real.open("rb") as stream:
            data = stream.read(most_bytes + 1)
    except OSError as error:
        raise ValueError(f"it cannot be read: {os.strerror(error.errno or 0)}") from None
    if len(data) > most_bytes:
        large = most_bytes >= 1 << 20
        most = f"{most_bytes >> 20} MiB" if large else f"{most_bytes >> 10} KiB"
        raise ValueError(f"it is larger than {most}")
    return data
