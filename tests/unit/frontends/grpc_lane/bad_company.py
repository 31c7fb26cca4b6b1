"""Clients that nobody wants beside them: slow, half-closed, cancelling and flooding ones.

Each goes on until it is cancelled, connects again when it is thrown out, and does what it does at a
pace of its own, so that it is the server that is tried and not the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from . import raw
from .raw import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, SETTINGS, frame

PACE_S = 0.02
PAUSE_S = 0.25
CANCEL = struct.pack(">L", raw.CANCEL)
FIELDS = raw.fields(raw.INFER)

FLOODS = (
    frame(PING, 0, 0, bytes(8)) * 3000,
    frame(SETTINGS, 0, 0) * 3000,
    frame(DATA, 0, 1, b"") * 3000,
    frame(raw.PRIORITY, 0, 1, bytes(5)) * 3000,
    frame(HEADERS, 0, 3, b"") + frame(CONTINUATION, 0, 3, b"\0\x01x\x01y" * 1000) * 20,
    b"".join(frame(HEADERS, END_HEADERS, 2 * n + 3, b"\x83") for n in range(3000)),
)

Client = Callable[[int, bytes, int], Awaitable[None]]
"""Takes a port, the message of a good request, and a number that tells it from its kind."""


async def slow(port: int, message: bytes, number: int) -> None:
    """Send a message in small pieces, and take its answer in small pieces."""
    body = raw.message(message)
    async with _connected(port, (4, 0)) as (client, gone):
        for stream in range(1, 2**30, 2):
            client.open(stream, FIELDS)
            step = max(1, len(body) // 20)
            for start in range(0, len(body), step):
                end = END_STREAM if start + step >= len(body) else 0
                client.send(frame(DATA, end, stream, body[start : start + step]))
                await _pause(gone, PACE_S)
            for _ in range(20):
                client.send(raw.window(stream, step))
                await _pause(gone, PACE_S)
            if number % 2:
                client.send(frame(raw.RST_STREAM, 0, stream, CANCEL))


async def half_closed(port: int, message: bytes, number: int) -> None:
    """Begin calls, leave them unfinished, and hang up one side or leave them standing."""
    body = raw.message(message)
    async with _connected(port) as (client, gone):
        for stream in range(1, 41, 2):
            client.open(stream, FIELDS)
            client.send(frame(DATA, 0, stream, body[: 1 + len(body) // 2]))
        await _pause(gone, PACE_S)
        if number % 2:
            client.writer.write_eof()
        await _pause(gone, PAUSE_S)


async def cancelling(port: int, message: bytes, _number: int) -> None:
    """Make calls and take them back at once."""
    body = raw.message(message)
    async with _connected(port) as (client, gone):
        stream = 1
        while True:
            for _ in range(4):
                client.call(stream, FIELDS, body)
                client.send(frame(raw.RST_STREAM, 0, stream, CANCEL))
                stream += 2
            await _pause(gone, PACE_S)


async def flooding(port: int, _message: bytes, number: int) -> None:
    """Send what says nothing and costs nothing until the server hangs up."""
    async with _connected(port) as (client, gone):
        client.open(1, FIELDS)
        client.send(FLOODS[number % len(FLOODS)])
        await gone


KINDS: tuple[Client, ...] = (slow, half_closed, cancelling, flooding)


@contextlib.asynccontextmanager
async def company(
    port: int, message: bytes, count: int = 24, kinds: Sequence[Client] = KINDS
) -> AsyncIterator[list[int]]:
    """Have ``count`` of them about; yields how often each has connected."""
    turns = [0] * count

    async def again(number: int) -> None:
        while True:
            turns[number] += 1
            with contextlib.suppress(OSError, TimeoutError, EOFError):
                await kinds[number % len(kinds)](port, message, number // len(kinds))
            await asyncio.sleep(PAUSE_S)

    tasks = [asyncio.ensure_future(again(number)) for number in range(count)]
    try:
        yield turns
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    wrong = [end for end in ended if not isinstance(end, asyncio.CancelledError)]
    assert not wrong, wrong


@contextlib.asynccontextmanager
async def _connected(
    port: int, *pairs: tuple[int, int]
) -> AsyncIterator[tuple[raw.RawClient, asyncio.Future[None]]]:
    """Connect, and read what comes without a look at it; yields what is done at its end as well."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = raw.RawClient(reader, writer)
    client.send(raw.PREFACE, raw.settings(*pairs), frame(SETTINGS, raw.ACK, 0))
    reading = asyncio.ensure_future(_read(reader))
    try:
        yield client, reading
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await reading
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _pause(gone: asyncio.Future[None], seconds: float) -> None:
    """Wait, unless the server hangs up: then raise ConnectionError."""
    await asyncio.wait({gone}, timeout=seconds)
    if gone.done():
        raise ConnectionResetError


async def _read(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        while await reader.read(1 << 16):
            pass
