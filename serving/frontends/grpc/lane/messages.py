"""gRPC messages in a stream of bytes: put together within a limit, unpacked within it too.

Source: gRPC's PROTOCOL-HTTP2.md, "Length-Prefixed-Message"::

    compressed: 8 (0 or 1)    length: 32, big-endian    and then length bytes

Statuses and texts are those of gRPC's own servers, where they have one.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from serving.frontends.grpc.status_code import StatusCode

PREFIX_BYTES = 5
IDENTITY = b"identity"

_WINDOWS: Mapping[bytes, int] = {b"gzip": 31, b"deflate": 15}
ENCODINGS = (IDENTITY, *_WINDOWS)
"""Values of ``grpc-encoding`` that are read here."""

_SLICE = 1 << 14
"""Bytes given to zlib at a time: it copies what it leaves, so a large slice costs a square."""

_SMALL, _GATHERED = 1 << 10, 1 << 16


class BadMessage(Exception):
    """What a client sent is no message, or is one that is not taken; how the call ends."""

    def __init__(self, code: StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


class Packed(NamedTuple):
    """One message as it came."""

    compressed: bool
    data: bytes


class Inbox:
    """Collects the messages of one stream; ``limit`` bounds each in bytes, as it came.

    ``held`` counts the bytes of all that was fed and not yet taken.
    """

    __slots__ = ("_limit", "_need", "_parts", "_prefix", "_size", "held", "ready")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes | bytearray] = []
        self._size = 0
        self._need = PREFIX_BYTES
        self._prefix: bytes | None = None
        self.held = 0
        self.ready: deque[Packed] = deque()

    def feed(self, piece: bytes) -> None:
        """Take in bytes; raises BadMessage once they cannot become a message."""
        last = self._parts[-1] if self._parts else None
        # Pieces of a few bytes each must not cost an object each.
        if isinstance(last, bytearray) and len(last) < _GATHERED:
            last += piece
        elif piece:
            self._parts.append(bytearray(piece) if len(piece) < _SMALL else piece)
        self._size += len(piece)
        self.held += len(piece)
        while self._size >= self._need:
            data = self._next()
            if self._prefix is None:
                self._need = self._length(data)
                self._prefix = data
            else:
                self.ready.append(Packed(bool(self._prefix[0]), data))
                self._need, self._prefix = PREFIX_BYTES, None

    def take(self) -> Packed:
        """Return the first message that is ready."""
        message = self.ready.popleft()
        self.held -= PREFIX_BYTES + len(message.data)
        return message

    @property
    def within(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._size) or self._prefix is not None

    def _next(self) -> bytes:
        """Return the bytes that are needed, and keep what follows them."""
        whole, need = b"".join(self._parts), self._need
        rest = whole[need:]
        self._parts = [rest] if rest else []
        self._size = len(rest)
        return whole[:need] if rest else whole

    def _length(self, prefix: bytes) -> int:
        if prefix[0] > 1:
            raise BadMessage(StatusCode.INTERNAL, f"a message begins with {prefix[0]}, not 0 or 1")
        length = int.from_bytes(prefix[1:])
        if length > self._limit:
            raise BadMessage(
                StatusCode.RESOURCE_EXHAUSTED,
                f"SERVER: Received message larger than max ({length} vs. {self._limit})",
            )
        return length


def check_encoding(encoding: bytes) -> None:
    """Raise BadMessage for a ``grpc-encoding`` that is not read here."""
    if encoding not in ENCODINGS:
        given = encoding[:40].decode("latin-1")
        known = ", ".join([name.decode() for name in ENCODINGS])
        raise BadMessage(
            StatusCode.UNIMPLEMENTED, f"grpc-encoding {given!r} is not read here; expected {known}"
        )


def unpacked(message: Packed, encoding: bytes, limit: int) -> bytes:
    """Return a message's bytes; raises BadMessage when it is damaged or over the limit."""
    if not message.compressed:
        return message.data
    window = _WINDOWS.get(encoding)
    if window is None:
        text = "Compression bit set but no encoding configured"
        raise BadMessage(StatusCode.INTERNAL, text)
    try:
        return _inflated(message.data, window, limit)
    except zlib.error:
        raise _damaged() from None


def _inflated(data: bytes, window: int, limit: int) -> bytes:
    unpacker = zlib.decompressobj(window)
    parts: list[bytes] = []
    room = limit + 1
    for start in range(0, len(data), _SLICE):
        rest = data[start : start + _SLICE]
        while rest and not unpacker.eof:
            part = unpacker.decompress(rest, room)
            rest = unpacker.unconsumed_tail
            room -= len(part)
            if room <= 0:
                text = "Decompressed message larger than max"
                raise BadMessage(StatusCode.RESOURCE_EXHAUSTED, text)
            parts.append(part)
        if unpacker.eof:
            if unpacker.unused_data or start + _SLICE < len(data):
                raise _damaged()
            return b"".join(parts)
    raise _damaged()


def _damaged() -> BadMessage:
    return BadMessage(StatusCode.INTERNAL, "Decompression failed: the message is damaged")
