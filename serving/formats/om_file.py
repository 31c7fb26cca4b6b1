"""What the head of an OM file tells, on any machine; the rest is for CANN's loader on a device.

Little-endian, 256 bytes (CANN's ``ModelFileHeader``)::

      0  "IMOD"
      4  u32   length of this header: 256
     76  u32   bytes that follow the header, where the u64 below is 0
    184  u64   bytes that follow the header

The loader refuses a file whose header does not say how long it is.
"""

from __future__ import annotations

import struct
from pathlib import Path

MAGIC = b"IMOD"
HEADER_BYTES = 256


def problem_of(path: Path) -> str:
    """Return what is wrong with a file and the way out, or nothing; raises OSError."""
    with path.open("rb") as file:
        return problem(file.read(HEADER_BYTES), path.stat().st_size)


def problem(head: bytes, size: int) -> str:
    """Judge a file by its first bytes and its size in bytes."""
    if head[:4] != MAGIC:
        return "the file is no OM model: it does not begin as one; compile it with atc"
    if len(head) < HEADER_BYTES or size < HEADER_BYTES:
        return "the OM file is cut short in its header; copy it again"
    (head_bytes,) = struct.unpack_from("<I", head, 4)
    if head_bytes != HEADER_BYTES:
        return (
            f"the OM file has a header of {head_bytes} bytes, and {HEADER_BYTES} are known; it is "
            "damaged, or made by a CANN that this server does not know yet"
        )
    (length,) = struct.unpack_from("<I", head, 76)
    (long_length,) = struct.unpack_from("<Q", head, 184)
    stated, given = long_length or length, size - HEADER_BYTES
    if stated != given:
        return (
            f"the OM file is damaged: its header states {stated} bytes and {given} follow; "
            "copy it again"
        )
    return ""
