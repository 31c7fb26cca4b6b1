"""Environments of the peers: one each, made once in the cache folder by pip."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class NotInstalled(Exception):
    """A peer could not be installed; the text is what was said last."""


def environment(
    cache: Path, name: str, packages: Sequence[str], python: str = sys.executable
) -> Path:
    """Return the folder of an environment that holds ``packages``, making it if need be.

    ``python`` is the interpreter that it is made with.
    """
    folder = cache / "peers" / name
    mark = folder / "installed"
    wanted = "\n".join(packages)
    if mark.exists() and mark.read_text() == wanted:
        return folder
    try:
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotInstalled(f"{python} cannot make an environment: {error}") from error
    made = subprocess.run(
        [str(folder / "bin" / "pip"), "install", "-q", *packages],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise NotInstalled(f"{name} cannot be installed: {made.stderr.strip()[-400:]}")
    mark.write_text(wanted)
    return folder
