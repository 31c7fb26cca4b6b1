"""A client that speaks HTTP/2 frame by frame, right or wrong as the test wants it.

It shares nothing with the server but the ``hpack`` package: frames are put together and taken
apart here, after RFC 9113.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import hpack

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, WITH_PRIORITY = 0x4, 0x8, 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL = 5, 6, 7, 8
COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 9, 11

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LIVE = "/inference.GRPCInferenceService/ServerLive"
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
EMPTY = b"\0\0\0\0\0"
WAIT_S = 30.0
"""Passed only by what is broken; machines that run tests may be slow."""

Fields = list[tuple[str, str]]


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def number(self) -> int:
        """The 32-bit number that a payload begins with."""
        return int(struct.unpack_from(">L", self.payload)[0])

    @property
    def error(self) -> int:
        """The code of a RST_STREAM or GOAWAY."""
        return int(struct.unpack_from(">L", self.payload, 0 if self.kind == RST_STREAM else 4)[0])


class Answer(NamedTuple):
    """All that came on one stream: the fields of both header blocks together."""

    fields: dict[str, str]
    data: bytes
    reset: int | None


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return struct.pack(">HBBBL", size >> 8, size & 255, kind, flags, stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HL", *pair) for pair in pairs))


def window(stream: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">L", size))


def message(data: bytes, compressed: bool = False) -> bytes:
    return struct.pack(">BL", compressed, len(data)) + data


def fields(path: str = LIVE, *more: tuple[str, str], **changed: str | None) -> Fields:
    """Return the fields of a call; those named in ``changed`` otherwise, or left out (None)."""
    usual = {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "test",
        "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    for name, value in changed.items():
        key = name.replace("_", "-")
        usual[key if key in usual else f":{key}"] = value  # type: ignore[assignment]
    return [(name, value) for name, value in usual.items() if value is not None] + list(more)


class RawClient:
    """One connection. ``hello`` False leaves preface and SETTINGS to the test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.seen: list[Frame] = []
        self._buffer = b""
        # What we may send: on the connection (0) and on streams, as far as they were widened.
        self.windows = {0: 65_535}
        self.initial_window = 65_535

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    def block(self, given: Sequence[tuple[str, str]]) -> bytes:
        return bytes(self.encoder.encode(given))

    def open(self, stream: int, given: Fields | None = None, *, end: bool = False) -> None:
        """Send the HEADERS of a call."""
        flags = END_HEADERS | (END_STREAM if end else 0)
        self.send(frame(HEADERS, flags, stream, self.block(given or fields())))

    def call(self, stream: int, given: Fields | None = None, data: bytes = EMPTY) -> None:
        """Send a whole call."""
        self.open(stream, given)
        self.send(frame(DATA, END_STREAM, stream, data))

    async def next(self) -> Frame | None:
        """Return the next frame, None at the end of the connection."""
        async with asyncio.timeout(WAIT_S):
            while True:
                if len(self._buffer) >= 9:
                    high, low, kind, flags, stream = struct.unpack_from(">HBBBL", self._buffer)
                    end = 9 + (high << 8 | low)
                    if len(self._buffer) >= end:
                        found = Frame(kind, flags, stream, self._buffer[9:end])
                        self._buffer = self._buffer[end:]
                        self.seen.append(found)
                        self._keep_windows(found)
                        return found
                try:
                    more = await self.reader.read(1 << 16)
                except ConnectionError:
                    return None
                if not more:
                    return None
                self._buffer += more

    def _keep_windows(self, found: Frame) -> None:
        if found.kind == WINDOW_UPDATE:
            left = self.windows.get(found.stream, self.initial_window)
            self.windows[found.stream] = left + found.number
        elif found.kind == SETTINGS:
            told = dict(struct.iter_unpack(">HL", found.payload))
            self.initial_window = told.get(4, self.initial_window)

    async def upload(self, stream: int, data: bytes) -> None:
        """Send the DATA of a call as far as windows allow; another task must be reading."""
        for start in range(0, len(data), 16384):
            piece = data[start : start + 16384]
            self.windows.setdefault(stream, self.initial_window)
            async with asyncio.timeout(WAIT_S):
                while min(self.windows[0], self.windows[stream]) < len(piece):
                    await asyncio.sleep(0.001)
            self.windows[0] -= len(piece)
            self.windows[stream] -= len(piece)
            end = END_STREAM if start + 16384 >= len(data) else 0
            self.send(frame(DATA, end, stream, piece))
            await self.writer.drain()

    async def until(self, kind: int, stream: int = 0, flags: int = 0) -> Frame:
        """Return the next frame of a kind on a stream; fails at the end of the connection."""
        while True:
            found = await self.next()
            assert found is not None, f"the connection ended; seen: {self.seen}"
            assert found.kind != GOAWAY or kind == GOAWAY, found
            if (found.kind, found.stream) == (kind, stream) and found.flags & flags == flags:
                return found

    async def answer(self, stream: int) -> Answer:
        """Collect one stream until it ends."""
        told: dict[str, str] = {}
        data = b""
        while True:
            found = await self.next()
            assert found is not None, f"the connection ended; seen: {self.seen}"
            if found.kind == HEADERS:
                block = self.decoder.decode(found.payload)
                if found.stream == stream:
                    told.update(block)
            if found.stream != stream:
                continue
            if found.kind == DATA:
                data += found.payload
            if found.kind == RST_STREAM:
                return Answer(told, data, found.error)
            if found.flags & END_STREAM and found.kind in (DATA, HEADERS):
                return Answer(told, data, None)

    async def end_of_stream(self, stream: int) -> int:
        """Return the error code that a stream is reset with."""
        return (await self.until(RST_STREAM, stream)).error

    async def end(self) -> int | None:
        """Return the code of the GOAWAY that ends the connection; None where none came."""
        code = None
        while (found := await self.next()) is not None:
            if found.kind == GOAWAY:
                code = found.error
        return code

    async def ping(self, payload: bytes = b"whatever") -> None:
        """Wait until the server has seen all that was sent."""
        self.send(frame(PING, 0, 0, payload))
        while (
            (found := await self.next()) is None or found.kind != PING or found.payload != payload
        ):
            assert found is not None
            assert found.kind != GOAWAY, found

    async def alive(self, stream: int) -> None:
        """Check that the connection answers calls."""
        self.call(stream)
        assert (await self.answer(stream)).fields["grpc-status"] == "0"


@contextlib.asynccontextmanager
async def connection(
    port: int | None = None, *pairs: tuple[int, int], hello: bool = True, **more: Any
) -> AsyncIterator[RawClient]:
    """Connect, or take ``sock``; greet with these settings, and hang up at the end."""
    host = None if port is None else "127.0.0.1"
    reader, writer = await asyncio.open_connection(host, port, **more)
    client = RawClient(reader, writer)
    try:
        if hello:
            client.send(PREFACE, settings(*pairs))
            await client.until(SETTINGS)
            await client.until(SETTINGS, flags=ACK)
            client.send(frame(SETTINGS, ACK, 0))
        yield client
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
