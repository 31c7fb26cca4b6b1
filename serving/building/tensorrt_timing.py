"""TensorRT's timings of kernels, kept between builds: most of a build is measuring."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path
from typing import Any

from serving.building.tensorrt_identity import Target


class TimingCache:
    """One file for each library, version and GPU, beside the engines that are kept."""

    def __init__(self, folder: Path, target: Target) -> None:
        words = f"{target.library.name}-{target.library.version}-{target.gpu}"
        name = re.sub(r"[^A-Za-z0-9.]+", "-", words).strip("-")
        self._path = folder / f"timing-{name}.cache"

    def attach(self, config: Any) -> list[str]:
        """Give a build what is known, and return notes about what could not be used."""
        try:
            known = self._path.read_bytes()
        except OSError:
            known = b""
        notes: list[str] = []
        cache = config.create_timing_cache(known)
        if cache is None or not config.set_timing_cache(cache, False):
            notes.append("earlier timings do not fit this GPU or TensorRT and were not used")
            config.set_timing_cache(config.create_timing_cache(b""), False)
        return notes

    def keep(self, config: Any) -> None:
        """Write what is known now; whoever writes last wins, and each file is whole."""
        cache = config.get_timing_cache()
        if cache is None:
            return
        draft = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}")
        with contextlib.suppress(OSError):  # a build without it is only slower
            draft.write_bytes(bytes(cache.serialize()))
            os.replace(draft, self._path)
