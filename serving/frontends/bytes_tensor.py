"""Pack and unpack BYTES tensors: each element is its length (4 bytes, little-endian), then itself.

The layout is that of the Open Inference Protocol's binary data, over REST and over gRPC alike::

    03 00 00 00 'c' 'a' 't'  00 00 00 00  02 00 00 00 'o' 'x'      the elements 'cat', '', 'ox'
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from serving.errors import InvalidRequest

_LENGTH = Struct("<I")


def unpack(data: memoryview, count: int, name: str) -> list[bytes]:
    """Return the ``count`` elements that ``data`` (a flat view of bytes) consists of, copied out.

    ``name`` is the tensor's name, for messages. Raises InvalidRequest when a length reaches
    past the end of the data, or when there are fewer or more elements than ``count``. The work
    is bounded by ``len(data)``, whatever ``count`` and the lengths claim.
    """
    size = len(data)
    if count * 4 > size:
        raise _refusal(
            name,
            f"at least {count * 4} bytes ({count} elements, each after a 4-byte length)",
            f"{size} bytes",
        )
    read = _LENGTH.unpack_from
    items: list[bytes] = []
    start = 0
    for index in range(count):
        if start + 4 > size:
            raise _refusal(
                name, f"{count} elements", f"{index}, then {size - start} bytes without a length"
            )
        (length,) = read(data, start)
        start += 4
        end = start + length
        if end > size:
            raise _refusal(
                name,
                f"at most {size - start} bytes in element {index}",
                f"the length {length}",
            )
        items.append(bytes(data[start:end]))
        start = end
    if start != size:
        raise _refusal(
            name, f"{count} elements in {start} bytes", f"{size - start} bytes after the last one"
        )
    return items


def pack(items: Sequence[bytes]) -> bytes:
    """Return the elements in order, each after its length.

    Raises OverflowError for an element of 4 GiB or more: the format cannot say its length.
    """
    parts: list[bytes] = []
    for item in items:
        if len(item) > 0xFFFFFFFF:
            raise OverflowError(f"an element of {len(item)} bytes does not fit a 4-byte length")
        parts.append(_LENGTH.pack(len(item)))
        parts.append(item)
    return b"".join(parts)


def _refusal(name: str, expected: str, given: str) -> InvalidRequest:
    return InvalidRequest(
        f"the data of BYTES tensor {name!r} does not match its shape",
        code="bad_bytes_tensor",
        where=f"inputs.{name}",
        expected=expected,
        given=given,
        fix="write each element as its length in 4 bytes, little-endian, then its bytes",
    )
