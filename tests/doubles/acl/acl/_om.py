"""The file that stands for an OM: a real OM's header and partition table around an ONNX model.

::

    0    256-byte header as CANN writes it ("IMOD", sizes, checksum), little-endian
    256  u32 partitions, then for each u32 type, u64 offset, u64 size
         type 0 (model definition): JSON, see ``Definition``
         type 1 (weights): the ONNX model that computes
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HEADER = struct.Struct("<4sII64sIBBBB32sI32sII20sB3sQBB62s")
_PARTITION = struct.Struct("<IQQ")
BATCH, IMAGE, DIMS, FREE, STATIC = "batch", "image", "dims", "free", "static"


@dataclass(frozen=True)
class Definition:
    """What the double's compiler found out and its ``acl`` needs.

    ``kind`` is one of the five above. ``gears`` holds a list of numbers for each gear: ``[rows]``,
    ``[height, width]``, or the sizes of all inputs one after the other. ``inputs`` and ``outputs``
    are ``{"name", "dtype", "shape"}`` with ACL's number of the data type and -1 for a size that
    varies; an output has ``shapes``, one for each gear (one alone where there are no gears).
    """

    soc: str
    kind: str
    gears: list[list[int]]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    sleep_ms: float = 0.0
    dynamic_aipp: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


def pack(definition: Definition, model: bytes) -> bytes:
    """Return a whole file."""
    parts = [json.dumps(asdict(definition)).encode(), model]
    at = 4 + _PARTITION.size * len(parts)
    table = struct.pack("<I", len(parts))
    for number, part in enumerate(parts):
        table += _PARTITION.pack(number, at, len(part))
        at += len(part)
    body = table + b"".join(parts)
    header = HEADER.pack(
        b"IMOD", 256, 0x20000000, bytes(64), len(body), 0, 1, 0, 0, b"double", 0, b"", 1, 1,
        b"", 0, bytes(3), len(body), 0, int(definition.kind == FREE), bytes(62),
    )  # fmt: skip
    return header + body


def unpack(path: str) -> tuple[Definition, bytes] | None:
    """Return what a file holds, or None if CANN's loader would refuse its header."""
    data = Path(path).read_bytes()
    if len(data) < 256 or data[:4] != b"IMOD":
        return None
    fields = HEADER.unpack_from(data)
    length, long_length = fields[4], fields[17]
    body = data[256:]
    if (long_length or length) != len(body):
        return None
    try:
        (count,) = struct.unpack_from("<I", body)
        parts = {}
        for index in range(count):
            number, at, size = _PARTITION.unpack_from(body, 4 + index * _PARTITION.size)
            parts[number] = body[at : at + size]
        return Definition(**json.loads(parts[0])), parts[1]
    except (struct.error, ValueError, KeyError, TypeError):
        return None
