"""The generic cases of h2spec, written anew: what every HTTP/2 server does with sound frames.

The name of each section is that of h2spec's list; the numbers are RFC 7540's, and in brackets
RFC 9113's where they differ.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator

import pytest

from serving.frontends.grpc.server import GrpcFrontEnd

from . import raw
from .raw import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, WITH_PRIORITY, frame
from .running import lane


@pytest.fixture
async def front() -> AsyncIterator[GrpcFrontEnd]:
    async with lane() as running:
        yield running


async def ok(client: raw.RawClient, stream: int = 1) -> None:
    answer = await client.answer(stream)
    assert (answer.fields["grpc-status"], answer.data[5:]) == ("0", b"\x08\x01")


async def test_generic_1_the_client_connection_preface(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port, hello=False) as client:
        client.send(raw.PREFACE, raw.settings())
        first = await client.next()
        assert first is not None
        assert (first.kind, first.flags, first.stream) == (raw.SETTINGS, 0, 0)
        await client.until(raw.SETTINGS, flags=raw.ACK)


async def test_generic_1_a_preface_that_comes_in_pieces(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port, hello=False) as client:
        for byte in raw.PREFACE + raw.settings():
            client.send(bytes([byte]))
            await client.writer.drain()
        await client.until(raw.SETTINGS, flags=raw.ACK)
        client.call(1)
        await ok(client)


async def test_generic_2_a_stream_goes_through_its_states(front: GrpcFrontEnd) -> None:
    """Idle, open, half-closed, closed; PRIORITY is taken in each, WINDOW_UPDATE after the first."""
    priority = frame(raw.PRIORITY, 0, 1, struct.pack(">LB", 0, 15))
    async with raw.connection(front.port) as client:
        client.send(priority)
        client.open(1)
        client.send(priority, raw.window(1, 100), frame(DATA, END_STREAM, 1, raw.EMPTY))
        client.send(priority, raw.window(1, 100))
        await ok(client)
        client.send(priority, raw.window(1, 1), frame(raw.RST_STREAM, 0, 1, struct.pack(">L", 8)))
        await client.ping()


@pytest.mark.parametrize("pad", [0, 1, 255])
async def test_generic_3_1_data_with_padding(front: GrpcFrontEnd, pad: int) -> None:
    async with raw.connection(front.port) as client:
        client.open(1)
        payload = bytes([pad]) + raw.EMPTY + bytes(pad)
        client.send(frame(DATA, END_STREAM | PADDED, 1, payload))
        await ok(client)


async def test_generic_3_1_data_in_many_frames(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port) as client:
        client.open(1)
        for byte in raw.EMPTY:
            client.send(frame(DATA, 0, 1, bytes([byte])))
        client.send(frame(DATA, END_STREAM, 1))
        await ok(client)


@pytest.mark.parametrize("pad", [None, 0, 200])
@pytest.mark.parametrize("priority", [False, True])
async def test_generic_3_2_headers_with_padding_and_priority(
    front: GrpcFrontEnd, pad: int | None, priority: bool
) -> None:
    async with raw.connection(front.port) as client:
        block = client.block(raw.fields())
        flags, payload = END_HEADERS, block
        if priority:
            flags, payload = flags | WITH_PRIORITY, struct.pack(">LB", 0x80000000, 200) + payload
        if pad is not None:
            flags, payload = flags | PADDED, bytes([pad]) + payload + bytes(pad)
        client.send(frame(HEADERS, flags, 1, payload), frame(DATA, END_STREAM, 1, raw.EMPTY))
        await ok(client)


async def test_generic_3_3_priority_frames_mean_nothing(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port) as client:
        client.send(frame(raw.PRIORITY, 0, 5, struct.pack(">LB", 3, 255)))
        client.send(frame(raw.PRIORITY, 0, 3, struct.pack(">LB", 0x80000005, 0)))
        client.call(1)
        await ok(client)


async def test_generic_3_4_rst_stream_is_taken(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port) as client:
        client.open(1)
        client.send(frame(raw.RST_STREAM, 0, 1, struct.pack(">L", raw.CANCEL)))
        await client.alive(3)


async def test_generic_3_5_settings_are_acknowledged(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port) as client:
        client.send(raw.settings((3, 10), (0x99, 1)))  # and an unknown one is ignored
        acknowledged = await client.until(raw.SETTINGS, flags=raw.ACK)
        assert acknowledged.payload == b""


async def test_generic_3_7_pings_are_answered(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port) as client:
        await client.ping(b"\0\1\2\3\4\5\6\7")


async def test_generic_3_7_an_answer_to_no_ping_is_ignored(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port) as client:
        client.send(frame(raw.PING, raw.ACK, 0, b"surprise"))
        await client.alive(1)
        assert not [f for f in client.seen if f.kind == raw.PING]


async def test_generic_3_8_goaway_ends_the_connection_behind_its_calls(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port) as client:
        client.open(1)
        client.send(frame(raw.GOAWAY, 0, 0, struct.pack(">LL", 0, 0) + b"bye"))
        client.send(frame(DATA, END_STREAM, 1, raw.EMPTY))
        await ok(client)
        assert await client.end() is None


async def test_generic_3_9_windows_are_widened(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port) as client:
        client.open(1)
        client.send(raw.window(0, 1), raw.window(1, 1))
        client.send(frame(DATA, END_STREAM, 1, raw.EMPTY))
        await ok(client)


@pytest.mark.parametrize("frames", [1, 2, 16])
async def test_generic_3_10_blocks_in_pieces(front: GrpcFrontEnd, frames: int) -> None:
    async with raw.connection(front.port) as client:
        block = client.block(raw.fields())
        size = len(block) // frames
        client.send(frame(HEADERS, 0, 1, b""))
        for index in range(frames):
            last = index == frames - 1
            piece = block[index * size :] if last else block[index * size : (index + 1) * size]
            client.send(frame(CONTINUATION, END_HEADERS if last else 0, 1, piece))
        client.send(frame(DATA, END_STREAM, 1, raw.EMPTY))
        await ok(client)


async def test_generic_4_requests_with_trailers(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port) as client:
        client.open(1)
        client.send(frame(DATA, 0, 1, raw.EMPTY))
        trailers = client.block([("x-after", "all")])
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, trailers))
        await ok(client)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_generic_4_other_methods_are_told_so(front: GrpcFrontEnd, method: str) -> None:
    async with raw.connection(front.port) as client:
        client.open(1, raw.fields(method=method), end=True)
        assert (await client.answer(1)).fields == {":status": "405"}


async def test_generic_5_header_blocks_of_every_form(front: GrpcFrontEnd) -> None:
    """HPACK 6.1 to 6.3: indexed, with indexing, without, never, Huffman or plain, resized table."""
    usual = [(n.encode(), v.encode()) for n, v in raw.fields()]
    async with raw.connection(front.port) as client:
        blocks = [
            b"".join(literal(first, name, value) for name, value in usual)
            for first in (0x00, 0x10, 0x40)
        ]
        blocks.append(b"\x20" + blocks[0])  # a table of size 0, then without it
        blocks.append(b"\x20\x3f\xe1\x1f" + blocks[2])  # 0, then 4096 again
        blocks.append(bytes([0xC3 - index for index in range(len(usual))]))  # its six entries
        for index, block in enumerate(blocks):
            stream = 2 * index + 1
            client.send(frame(HEADERS, END_HEADERS, stream, block))
            client.send(frame(DATA, END_STREAM, stream, raw.EMPTY))
            await ok(client, stream)


def literal(first: int, name: bytes, value: bytes) -> bytes:
    """RFC 7541 section 6.2, with a new name and without Huffman coding."""
    return bytes([first, len(name)]) + name + bytes([len(value)]) + value
