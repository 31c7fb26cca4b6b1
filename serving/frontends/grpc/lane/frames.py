"""HTTP/2 frames as bytes: their kinds and flags, writing them, and reading the small ones.

Source: RFC 9113, sections 4.1 and 6. Every frame has a head of nine bytes::

    length: 24   kind: 8   flags: 8   reserved: 1   stream: 31    and then length bytes
"""

from __future__ import annotations

import struct

from serving.frontends.grpc.lane.faults import Code, ConnectionFault

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0x0, 0x1, 0x2, 0x3, 0x4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0x5, 0x6, 0x7, 0x8, 0x9

ACK = END_STREAM = 0x1
END_HEADERS, PADDED, WITH_PRIORITY = 0x4, 0x8, 0x20

Buffer = bytes | memoryview
"""What was read; a view is of a buffer that the next read writes over."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
MAX_FRAME = 16_384
"""Longest payload that we take: the least a peer may assume, and what we announce."""

STREAM_BITS = 0x7FFFFFFF
MAX_WINDOW = 2**31 - 1

HEAD = struct.Struct(">HBBBL")
"""A frame's head: length in two parts (upper 16 bits, lower 8), kind, flags, stream."""

_TWO_NUMBERS = struct.Struct(">LL")
_NUMBER = struct.Struct(">L")


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return a frame; the payload must not be longer than the peer takes."""
    return head(len(payload), kind, flags, stream_id) + payload


def head(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """Return the head of a frame whose payload has this length."""
    return HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream_id)


def header_frames(block: bytes, end_stream: bool, stream_id: int, most: int) -> bytes:
    """Return a header block as HEADERS and, where it is longer than ``most``, CONTINUATION."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= most:
        return frame(HEADERS, flags | END_HEADERS, stream_id, block)
    parts = [frame(HEADERS, flags, stream_id, block[:most])]
    for start in range(most, len(block), most):
        last = END_HEADERS if start + most >= len(block) else 0
        parts.append(frame(CONTINUATION, last, stream_id, block[start : start + most]))
    return b"".join(parts)


def rst_stream(stream_id: int, code: Code) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream_id, _NUMBER.pack(code))


def goaway(last_stream_id: int, code: Code, text: str = "") -> bytes:
    """Return a GOAWAY frame; ``text`` is for those who read traces."""
    return frame(GOAWAY, 0, 0, _TWO_NUMBERS.pack(last_stream_id, code) + text.encode())


def window_update(stream_id: int, size: int) -> bytes:
    """Return a WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream_id, _NUMBER.pack(size))


def trimmed(kind: int, flags: int, data: Buffer, start: int, end: int) -> tuple[int, int]:
    """Return where the content of a DATA or HEADERS frame lies in ``data``.

    Padding and a priority are left out. Raises ConnectionFault when there is no room for them.
    """
    if flags & PADDED:
        if start == end:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a padded frame without a pad length")
        end -= data[start]
        start += 1
    if kind == HEADERS and flags & WITH_PRIORITY:
        start += 5
    if end < start:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "padding or priority beyond the frame")
    return start, end


def number(payload: bytes) -> int:
    """Return the 31-bit number that is all of a payload, or its 32-bit error code.

    Raises ConnectionFault for another length (RST_STREAM, WINDOW_UPDATE).
    """
    if len(payload) != 4:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a payload that should have 4 bytes")
    return int(_NUMBER.unpack(payload)[0])
