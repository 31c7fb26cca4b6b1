"""The SETTINGS of both sides: what we announce, and what the peer has asked of us.

Source: RFC 9113, section 6.5.
"""

from __future__ import annotations

import struct

from serving.frontends.grpc.lane.faults import Code, ConnectionFault
from serving.frontends.grpc.lane.frames import ACK, MAX_FRAME, MAX_WINDOW, SETTINGS, frame

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 0x1, 0x2, 0x3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 0x4, 0x5, 0x6

DEFAULT_WINDOW = 65_535
"""What both windows begin with where nothing else was said."""

STREAM_WINDOW = 1 << 20
"""What a client may send on one stream before it hears from us: small calls need no update."""

CONNECTION_WINDOW = 16 << 20
MAX_STREAMS = 1024
"""Calls at once on one connection; clients queue what is beyond."""

HEADER_LIST_BYTES = 16 << 10
"""Largest header list of a call, counted as RFC 9113 section 6.5.2 does; gRPC's usual bound."""

_PAIR = struct.Struct(">HL")


def ours() -> bytes:
    """Return the SETTINGS frame that opens a connection on this side."""
    pairs = (
        (MAX_CONCURRENT_STREAMS, MAX_STREAMS),
        (INITIAL_WINDOW_SIZE, STREAM_WINDOW),
        (MAX_HEADER_LIST_SIZE, HEADER_LIST_BYTES),
    )
    return frame(SETTINGS, 0, 0, b"".join([_PAIR.pack(*pair) for pair in pairs]))


ACKNOWLEDGED = frame(SETTINGS, ACK, 0)


class PeerSettings:
    """What the client's SETTINGS have said so far, as far as it binds a server."""

    __slots__ = ("initial_window", "max_frame")

    def __init__(self) -> None:
        self.initial_window = DEFAULT_WINDOW
        self.max_frame = MAX_FRAME

    def apply(self, payload: bytes) -> int:
        """Take over a SETTINGS frame; return by how much every stream's window changes.

        Raises ConnectionFault. Unknown settings mean nothing; the size of the header table
        neither, since nothing that we send is put into it.
        """
        if len(payload) % _PAIR.size:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS of a broken length")
        before = self.initial_window
        for identifier, value in _PAIR.iter_unpack(payload):
            if identifier == INITIAL_WINDOW_SIZE:
                if value > MAX_WINDOW:
                    raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "an initial window over 2^31-1")
                self.initial_window = value
            elif identifier == MAX_FRAME_SIZE:
                if not MAX_FRAME <= value <= 2**24 - 1:
                    raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame size out of range")
                self.max_frame = value
            elif identifier == ENABLE_PUSH and value > 1:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        return self.initial_window - before
