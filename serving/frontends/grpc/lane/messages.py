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

from serving.frontends import body_memory
from serving.frontends.grpc.lane.request_head import IDENTITY
from serving.frontends.grpc.status_code import StatusCode

PREFIX_BYTES = 5
_WINDOWS: Mapping[bytes, int] = {b"gzip": 31, b"deflate": 15}
ENCODINGS = (IDENTITY, *_WINDOWS)
"""Values of ``grpc-encoding`` that are read here."""

_SLICE = 1 << 14
"""Bytes given to zlib at a time: it copies what it leaves, so a large slice costs a square."""

_LARGE = 1 << 14
"""From this size on a message is put into memory of its own as it comes, and copied no more."""

_SHARE = 64
"""The part of a large message that must have come before it is given all the memory it takes."""


class BadMessage(Exception):
    """What a client sent is no message, or is one that is not taken; how the call ends."""

    def __init__(self, code: StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


class Packed(NamedTuple):
    """One message as it came; the data of a large one are a view of memory of their own."""

    compressed: bool
    data: bytes | memoryview


class Inbox:
    """Collects the messages of one stream; ``limit`` bounds each in bytes, as it came.

    ``held`` counts the bytes of all that was fed and not yet taken, ``room`` those that a large
    message still lacks: less than these may be ``put``.
    """

    __slots__ = ("_at", "_compressed", "_limit", "_place", "_size", "_small", "held", "ready",
                 "room")  # fmt: skip

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._small = bytearray()  # a prefix, a short message, or the begin of a long one
        self._size = -1  # of the message whose prefix was read
        self._compressed = False
        self._place: memoryview | None = None
        self._at = 0
        self.held = self.room = 0
        self.ready: deque[Packed] = deque()

    def feed(self, piece: bytes | memoryview) -> None:
        """Take in bytes, by copying; raises BadMessage once they cannot become a message."""
        at, end = 0, len(piece)
        while at < end:
            if self._size < 0:
                taken = min(end - at, PREFIX_BYTES - len(self._small))
                self._add(piece[at : at + taken])
                if len(self._small) == PREFIX_BYTES:
                    self._begin(end - at - taken)
            else:
                taken = min(end - at, self._size - self._got)
                self._add(piece[at : at + taken])
            at += taken
            if self._size >= 0 and self._got == self._size:
                self._end()

    def put(self, piece: bytes | memoryview) -> None:
        """Take in bytes of a large message, fewer than ``room``."""
        assert self._place is not None
        size = len(piece)
        self._place[self._at : self._at + size] = piece
        self._at += size
        self.room -= size
        self.held += size

    def take(self) -> Packed:
        """Return the first message that is ready."""
        message = self.ready.popleft()
        self.held -= PREFIX_BYTES + len(message.data)
        return message

    @property
    def within(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._small) or self._size >= 0

    @property
    def _got(self) -> int:
        """Bytes that are there of the prefix or message."""
        return len(self._small) if self._place is None else self._at

    def _add(self, part: bytes | memoryview) -> None:
        """Put bytes to what is unfinished."""
        if self._place is not None:
            self.put(part)
            return
        self._small += part
        self.held += len(part)
        if self._size >= _LARGE and len(self._small) * _SHARE >= self._size:
            self._make_room()

    def _make_room(self) -> None:
        """Give a large message the memory that it takes.

        Not before a part of it has come: what is only announced costs its client nothing.
        """
        try:
            self._place = body_memory.room(self._size)
        except MemoryError:
            text = "there is no memory for a request of this size"
            raise BadMessage(StatusCode.RESOURCE_EXHAUSTED, text) from None
        self._at = len(self._small)
        self._place[: self._at] = self._small
        self._small = bytearray()
        self.room = self._size - self._at

    def _begin(self, more: int) -> None:
        """Read the prefix; so many bytes more are there."""
        prefix, self._small = self._small, bytearray()
        if prefix[0] > 1:
            raise BadMessage(StatusCode.INTERNAL, f"a message begins with {prefix[0]}, not 0 or 1")
        length = int.from_bytes(prefix[1:])
        if length > self._limit:
            raise BadMessage(
                StatusCode.RESOURCE_EXHAUSTED,
                f"SERVER: Received message larger than max ({length} vs. {self._limit})",
            )
        self._compressed = bool(prefix[0])
        self._size = length
        if length >= _LARGE and more * _SHARE >= length:
            self._make_room()

    def _end(self) -> None:
        """The message is whole."""
        data = bytes(self._small) if self._place is None else self._place
        self.ready.append(Packed(self._compressed, data))
        self._small, self._place, self._size, self.room = bytearray(), None, -1, 0


def check_encoding(encoding: bytes) -> None:
    """Raise BadMessage for a ``grpc-encoding`` that is not read here."""
    if encoding not in ENCODINGS:
        given = encoding[:40].decode("latin-1")
        known = ", ".join([name.decode() for name in ENCODINGS])
        raise BadMessage(
            StatusCode.UNIMPLEMENTED, f"grpc-encoding {given!r} is not read here; expected {known}"
        )


def unpacked(message: Packed, encoding: bytes, limit: int) -> bytes | memoryview:
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


def _inflated(data: bytes | memoryview, window: int, limit: int) -> bytes:
    unpacker = zlib.decompressobj(window)
    parts: list[bytes] = []
    room = limit + 1
    for start in range(0, len(data), _SLICE):
        rest: bytes | memoryview = data[start : start + _SLICE]
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
