"""The double's engine files: a header like TensorRT's, what it was built for, and an ONNX model.

::

    "ftrt"  u32 0  u64 1  u64 length of the file  u8 major minor patch build   28 bytes
    zeros to 64 bytes
    u32 length, JSON: {"profiles": [{"x": [[1, 3], [4, 3], [8, 3]]}], ...}
    the ONNX model

Needs no TensorRT, no CUDA and not the double itself: tests write such files with ``write``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

VERSION = (10, 14, 1, 48)
MAGIC = b"ftrt"
_HEAD = struct.Struct("<4sIQQ4B")
_HEADER_BYTES = 64

Ranges = Mapping[str, Sequence[Sequence[int]]]


@dataclass(frozen=True)
class Plan:
    """What an engine file holds.

    ``profiles``: smallest, usual and largest shape by input; ``on_host``: inputs read on the CPU;
    ``formats``: inputs or outputs that are not row-major.
    """

    onnx: bytes
    profiles: Sequence[Ranges] = ()
    on_host: Sequence[str] = ()
    formats: Mapping[str, str] = field(default_factory=dict)
    version: Sequence[int] = VERSION

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        told = {
            "profiles": [dict(profile) for profile in self.profiles],
            "on_host": list(self.on_host),
            "formats": dict(self.formats),
        }
        text = json.dumps(told).encode()
        length = _HEADER_BYTES + 4 + len(text) + len(self.onnx)
        head = _HEAD.pack(MAGIC, 0, 1, length, *self.version).ljust(_HEADER_BYTES, b"\0")
        return head + struct.pack("<I", len(text)) + text + self.onnx

    @staticmethod
    def from_bytes(data: bytes) -> Plan:
        """Read a file's content; raises ValueError with TensorRT's kind of words."""
        if len(data) < _HEADER_BYTES or data[:4] != MAGIC:
            raise ValueError("Serialization assertion header.magicTag == kPLAN_MAGIC_TAG failed.")
        _, _, _, length, *version = _HEAD.unpack_from(data)
        if length != len(data):
            raise ValueError("Serialization assertion header.size == size failed.")
        if tuple(version) != VERSION:
            raise ValueError(
                "The engine plan file is not compatible with this version of TensorRT, expecting "
                f"library version {'.'.join(map(str, VERSION))} got {'.'.join(map(str, version))}, "
                "please rebuild."
            )
        (size,) = struct.unpack_from("<I", data, _HEADER_BYTES)
        start = _HEADER_BYTES + 4
        told = json.loads(data[start : start + size])
        return Plan(data[start + size :], told["profiles"], told["on_host"], told["formats"])


def write(path: Path, plan: Plan) -> Path:
    """Write an engine file."""
    path.write_bytes(plan.to_bytes())
    return path
