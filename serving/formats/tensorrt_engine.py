"""What the head of a TensorRT engine file tells, on any machine; the rest is TensorRT's secret.

::

     0  "vtrt"  TensorRT-RTX          "ftrt", "ptrt"  TensorRT
    16  u64     length of the file     (TensorRT-RTX; not known to be so for the others)
    24  u8 x 4  version: major, minor, patch, build          ("vtrt" and "ftrt")

Seen in engines of TensorRT-RTX 1.7; for "ftrt" the version's place was told by NVIDIA
(github.com/NVIDIA/TensorRT/issues/3073). An engine runs with the version that built it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

HEADER_BYTES = 32
MODULES = {b"vtrt": "tensorrt_rtx", b"ftrt": "tensorrt", b"ptrt": "tensorrt"}
_LENGTH_AT, _VERSION_AT = 16, 24


@dataclass(frozen=True)
class EngineHeader:
    """``module`` reads the file (``tensorrt`` or ``tensorrt_rtx``); ``version`` may be unknown.

    ``problem`` says what is wrong with the file and the way out, empty if nothing shows.
    """

    module: str = ""
    version: str = ""
    problem: str = ""

    @property
    def detail(self) -> str:
        """Return ``built by TensorRT-RTX 1.7.1.116`` for people."""
        name = "TensorRT-RTX" if self.module == "tensorrt_rtx" else "TensorRT"
        return f"built by {name} {self.version}".strip()


def read_header(path: Path) -> EngineHeader:
    """Read the head of an engine file; raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return header(file.read(HEADER_BYTES), path.stat().st_size)


def header(head: bytes, size: int) -> EngineHeader:
    """Judge a file by its first bytes and its size."""
    module = MODULES.get(head[:4])
    if module is None:
        return EngineHeader(problem="it is no TensorRT engine; build one with trtexec")
    if len(head) < HEADER_BYTES:
        return EngineHeader(
            module, problem="the TensorRT engine is cut short in its header; copy it again"
        )
    (length,) = struct.unpack_from("<Q", head, _LENGTH_AT)
    version = "" if head[:4] == b"ptrt" else ".".join(map(str, head[_VERSION_AT:HEADER_BYTES][:4]))
    if module == "tensorrt_rtx" and length != size:
        return EngineHeader(
            module,
            version,
            f"the TensorRT engine is damaged: its header states {length} bytes, the file has "
            f"{size}; copy it again",
        )
    return EngineHeader(module, version)
