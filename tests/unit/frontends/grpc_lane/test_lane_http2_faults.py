"""The http2 cases of h2spec, written anew: what a server does with frames that are wrong.

The number in each test is the section of RFC 7540 that h2spec's list goes by (RFC 9113 kept the
numbers). Left out is 5.3.1: a stream that depends on itself, since RFC 9113 has no dependencies.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator

import pytest

from serving.frontends.grpc.server import GrpcFrontEnd

from . import raw
from .raw import (
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    HEADERS,
    PADDED,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    RawClient,
    frame,
)
from .running import HeldPlane, infer_message, lane

INFER_FIELDS = raw.fields(raw.INFER)


@pytest.fixture
async def front() -> AsyncIterator[GrpcFrontEnd]:
    async with lane() as running:
        yield running


@pytest.fixture
async def client(front: GrpcFrontEnd) -> AsyncIterator[RawClient]:
    async with raw.connection(front.port) as connected:
        yield connected


def number(value: int) -> bytes:
    return struct.pack(">L", value)


async def closed_by_answer(client: RawClient, stream: int = 1) -> None:
    client.call(stream)
    await client.answer(stream)


# -- 3.5 and 4: opening, frames ------------------------------------------------------------------


async def test_3_5_bytes_that_are_no_preface_end_the_connection(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port, hello=False) as client:
        client.send(b"INVALID CONNECTION PREFACE\r\n\r\n")
        await client.end()


async def test_3_5_http_1_is_told_what_speaks_here(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port, hello=False) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        told = await client.reader.read()
    assert b"HTTP/1.1 400 " in told
    head, _, body = told[told.index(b"HTTP/1.1") :].partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head
    assert b"gRPC" in body


@pytest.mark.parametrize("kind", [raw.PING, HEADERS, DATA, 0x42])
async def test_3_5_the_first_frame_must_be_settings(front: GrpcFrontEnd, kind: int) -> None:
    async with raw.connection(front.port, hello=False) as client:
        client.send(raw.PREFACE, frame(kind, END_HEADERS, 1 if kind < 2 else 0, bytes(8)))
        assert await client.end() == PROTOCOL_ERROR


async def test_3_5_the_first_settings_must_not_be_an_acknowledgement(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port, hello=False) as client:
        client.send(raw.PREFACE, frame(raw.SETTINGS, raw.ACK, 0))
        assert await client.end() == PROTOCOL_ERROR


async def test_4_1_frames_of_unknown_kinds_are_ignored(client: RawClient) -> None:
    client.send(frame(0x16, 0, 0, bytes(8)), frame(0x42, 0xFF, 9, b"x"))
    await client.alive(1)


async def test_4_1_flags_that_mean_nothing_are_ignored(client: RawClient) -> None:
    client.send(frame(raw.PING, 0x16, 0, b"12345678"))
    assert (await client.until(raw.PING, flags=raw.ACK)).payload == b"12345678"


async def test_4_1_the_reserved_bit_is_ignored(client: RawClient) -> None:
    client.send(frame(raw.PING, 0, 0x80000000, b"12345678"))
    await client.until(raw.PING, flags=raw.ACK)


async def test_4_2_a_frame_of_the_largest_size_is_taken(client: RawClient) -> None:
    client.open(1, INFER_FIELDS)
    client.send(frame(DATA, END_STREAM, 1, raw.message(bytes(16384 - 5))))
    assert (await client.answer(1)).fields["grpc-status"] == "3"


@pytest.mark.parametrize("kind", [DATA, HEADERS, raw.PING, 0x42])
async def test_4_2_a_larger_frame_is_refused(client: RawClient, kind: int) -> None:
    client.open(1)
    client.send(frame(kind, END_STREAM, 1, bytes(16385)))
    assert await client.end() == FRAME_SIZE_ERROR


@pytest.mark.parametrize(
    "block",
    [
        b"\x40\x05abc",  # cut short
        b"\x80",  # index 0
        b"\xff\xff\xff\xff\xff\xff\xff",  # a number without end
        b"\xc8",  # an index beyond the table
        b"\x82\x20",  # a resized table behind a field
        b"\x3f\xff\xff\x7f",  # a table of more than was offered
        b"\x20\x20\x20\x82",  # resized three times
        b"\x00\x81\xff\x00",  # Huffman padding that is too long
        b"\x00\x84\xff\xff\xff\xff\x00",  # the Huffman code for the end
    ],
)
async def test_4_3_a_block_that_cannot_be_read_ends_the_connection(
    client: RawClient, block: bytes
) -> None:
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
    assert await client.end() == raw.COMPRESSION_ERROR


async def test_4_3_a_block_may_not_be_interrupted(client: RawClient) -> None:
    client.send(frame(HEADERS, 0, 1, client.block(raw.fields())))
    client.send(frame(raw.PRIORITY, 0, 1, bytes(5)))
    assert await client.end() == PROTOCOL_ERROR


async def test_4_3_not_even_by_another_call(client: RawClient) -> None:
    client.send(frame(HEADERS, 0, 1, client.block(raw.fields())))
    client.open(3)
    assert await client.end() == PROTOCOL_ERROR


# -- 5.1: states of streams ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (DATA, b"x"),
        (raw.RST_STREAM, number(8)),
        (raw.WINDOW_UPDATE, number(1)),
        (CONTINUATION, b""),
    ],
)
async def test_5_1_idle_streams_take_nothing_else(
    client: RawClient, kind: int, payload: bytes
) -> None:
    client.send(frame(kind, 0, 1, payload))
    assert await client.end() == PROTOCOL_ERROR


async def test_5_1_half_closed_data() -> None:
    async with lane(HeldPlane()) as front, raw.connection(front.port) as client:
        client.call(1, INFER_FIELDS, raw.message(infer_message()))
        client.send(frame(DATA, END_STREAM, 1, b"x"))
        assert await client.end_of_stream(1) == STREAM_CLOSED
        await client.alive(3)


async def test_5_1_half_closed_headers() -> None:
    async with lane(HeldPlane()) as front, raw.connection(front.port) as client:
        client.call(1, INFER_FIELDS, raw.message(infer_message()))
        client.open(1, end=True)
        assert await client.end_of_stream(1) == STREAM_CLOSED
        await client.alive(3)


async def test_5_1_half_closed_continuation() -> None:
    async with lane(HeldPlane()) as front, raw.connection(front.port) as client:
        client.call(1, INFER_FIELDS, raw.message(infer_message()))
        client.send(frame(CONTINUATION, END_HEADERS, 1, b"\x82"))
        assert await client.end() == PROTOCOL_ERROR


async def test_5_1_closed_by_reset_data(client: RawClient) -> None:
    client.open(1)
    client.send(frame(raw.RST_STREAM, 0, 1, number(CANCEL)), frame(DATA, END_STREAM, 1, b"x"))
    assert await client.end_of_stream(1) == STREAM_CLOSED
    await client.alive(3)


async def test_5_1_closed_by_reset_headers(client: RawClient) -> None:
    client.open(1)
    client.send(frame(raw.RST_STREAM, 0, 1, number(CANCEL)))
    client.open(1, end=True)
    assert await client.end_of_stream(1) == STREAM_CLOSED
    await client.alive(3)


async def test_5_1_closed_by_reset_continuation(client: RawClient) -> None:
    client.open(1)
    client.send(frame(raw.RST_STREAM, 0, 1, number(CANCEL)))
    client.send(frame(CONTINUATION, END_HEADERS, 1, b"\x82"))
    assert await client.end() == PROTOCOL_ERROR


async def test_5_1_closed_data(client: RawClient) -> None:
    await closed_by_answer(client)
    client.send(frame(DATA, END_STREAM, 1, b"x"))
    assert await client.end_of_stream(1) == STREAM_CLOSED


async def test_5_1_closed_headers(client: RawClient) -> None:
    await closed_by_answer(client)
    client.open(1, end=True)
    assert await client.end_of_stream(1) == STREAM_CLOSED
    await client.alive(3)


async def test_5_1_closed_continuation(client: RawClient) -> None:
    await closed_by_answer(client)
    client.send(frame(CONTINUATION, END_HEADERS, 1, b"\x82"))
    assert await client.end() == PROTOCOL_ERROR


async def test_5_1_closed_by_the_server_takes_what_was_on_its_way(client: RawClient) -> None:
    """It answers before the request has ended, so its RST_STREAM crosses DATA and HEADERS."""
    client.open(1, raw.fields("/no.Such/Method"))
    answer = await client.answer(1)
    assert answer.fields["grpc-status"] == "12"
    assert await client.end_of_stream(1) == raw.NO_ERROR
    client.send(frame(DATA, 0, 1, b"late"))
    client.open(1, [("x-late", "trailer")], end=True)
    await client.alive(3)
    assert len([f for f in client.seen if f.kind == raw.RST_STREAM]) == 1


@pytest.mark.parametrize("stream", [2, 0x7FFFFFFE])
async def test_5_1_1_clients_streams_are_odd(client: RawClient, stream: int) -> None:
    client.open(stream)
    assert await client.end() == PROTOCOL_ERROR


async def test_5_1_1_streams_open_in_order(client: RawClient) -> None:
    client.open(5)
    client.open(3)
    assert await client.end() == PROTOCOL_ERROR


async def test_5_1_2_streams_beyond_the_limit_are_refused() -> None:
    plane = HeldPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        (told,) = [f for f in client.seen if f.kind == raw.SETTINGS and f.payload]
        most = dict(struct.iter_unpack(">HL", told.payload))[3]
        block = client.block(INFER_FIELDS)
        again = client.block(INFER_FIELDS)
        body = raw.message(infer_message())
        for index in range(most + 1):
            stream = 2 * index + 1
            client.send(frame(HEADERS, END_HEADERS, stream, again if index else block))
            if index < most:
                client.send(frame(DATA, END_STREAM, stream, body))
            await client.writer.drain()
        assert await client.end_of_stream(2 * most + 1) == raw.REFUSED_STREAM
        assert len(plane.claims) == most
        plane.answer()
        await client.answer(2 * most - 1)
        await client.alive(2 * most + 3)


# -- 5.4, 5.5 ------------------------------------------------------------------------------------


async def test_5_4_1_a_fault_is_told_by_goaway_with_the_last_stream(client: RawClient) -> None:
    await closed_by_answer(client, 7)
    client.send(frame(raw.PING, 0, 0, b"short"))
    while (found := await client.next()) is not None:
        told = found
    assert (told.kind, told.number, told.error) == (raw.GOAWAY, 7, FRAME_SIZE_ERROR)


async def test_5_5_unknown_frames_within_a_block_are_faults(client: RawClient) -> None:
    client.send(frame(HEADERS, 0, 1, client.block(raw.fields())), frame(0x42, 0, 0, b""))
    assert await client.end() == PROTOCOL_ERROR


# -- 6: each kind of frame -----------------------------------------------------------------------


async def test_6_1_data_on_stream_0(client: RawClient) -> None:
    client.send(frame(DATA, END_STREAM, 0, b"x"))
    assert await client.end() == PROTOCOL_ERROR


async def test_6_1_data_padded_beyond_its_end(client: RawClient) -> None:
    client.open(1)
    client.send(frame(DATA, PADDED | END_STREAM, 1, b"\x06\0\0\0\0\0"))
    assert await client.end() == PROTOCOL_ERROR


async def test_6_1_data_padded_without_a_length(client: RawClient) -> None:
    client.open(1)
    client.send(frame(DATA, PADDED | END_STREAM, 1, b""))
    assert await client.end() == FRAME_SIZE_ERROR


async def test_6_2_headers_on_stream_0(client: RawClient) -> None:
    client.open(0)
    assert await client.end() == PROTOCOL_ERROR


async def test_6_2_headers_padded_beyond_their_end(client: RawClient) -> None:
    block = client.block(raw.fields())
    flags = PADDED | END_HEADERS | END_STREAM
    client.send(frame(HEADERS, flags, 1, bytes([len(block) + 1]) + block))
    assert await client.end() == PROTOCOL_ERROR


async def test_6_3_priority_on_stream_0(client: RawClient) -> None:
    client.send(frame(raw.PRIORITY, 0, 0, bytes(5)))
    assert await client.end() == PROTOCOL_ERROR


@pytest.mark.parametrize("size", [0, 4, 6])
async def test_6_3_priority_of_another_length(client: RawClient, size: int) -> None:
    client.open(1)
    client.send(frame(raw.PRIORITY, 0, 1, bytes(size)))
    assert await client.end_of_stream(1) == FRAME_SIZE_ERROR
    await client.alive(3)


async def test_6_4_rst_stream_on_stream_0(client: RawClient) -> None:
    client.send(frame(raw.RST_STREAM, 0, 0, number(CANCEL)))
    assert await client.end() == PROTOCOL_ERROR


async def test_6_4_rst_stream_on_an_idle_stream(client: RawClient) -> None:
    client.send(frame(raw.RST_STREAM, 0, 9, number(CANCEL)))
    assert await client.end() == PROTOCOL_ERROR


@pytest.mark.parametrize("size", [0, 3, 5])
async def test_6_4_rst_stream_of_another_length(client: RawClient, size: int) -> None:
    client.open(1)
    client.send(frame(raw.RST_STREAM, 0, 1, bytes(size)))
    assert await client.end() == FRAME_SIZE_ERROR


async def test_6_5_settings_acknowledged_with_content(client: RawClient) -> None:
    client.send(frame(raw.SETTINGS, raw.ACK, 0, bytes(6)))
    assert await client.end() == FRAME_SIZE_ERROR


async def test_6_5_settings_on_a_stream(client: RawClient) -> None:
    client.send(frame(raw.SETTINGS, 0, 1))
    assert await client.end() == PROTOCOL_ERROR


@pytest.mark.parametrize("size", [1, 5, 7])
async def test_6_5_settings_of_a_broken_length(client: RawClient, size: int) -> None:
    client.send(frame(raw.SETTINGS, 0, 0, bytes(size)))
    assert await client.end() == FRAME_SIZE_ERROR


@pytest.mark.parametrize(
    ("setting", "value", "code"),
    [
        (2, 2, PROTOCOL_ERROR),  # ENABLE_PUSH
        (4, 2**31, FLOW_CONTROL_ERROR),  # INITIAL_WINDOW_SIZE
        (5, 16383, PROTOCOL_ERROR),  # MAX_FRAME_SIZE
        (5, 2**24, PROTOCOL_ERROR),
    ],
)
async def test_6_5_2_settings_out_of_range(
    client: RawClient, setting: int, value: int, code: int
) -> None:
    client.send(raw.settings((setting, value)))
    assert await client.end() == code


@pytest.mark.parametrize("setting", [(2, 0), (2, 1), (4, 2**31 - 1), (5, 16384), (5, 2**24 - 1)])
async def test_6_5_2_settings_at_the_edges(client: RawClient, setting: tuple[int, int]) -> None:
    client.send(raw.settings(setting))
    await client.alive(1)


async def test_6_5_3_of_several_values_the_last_counts(client: RawClient) -> None:
    client.send(raw.settings((4, 100), (4, 1)))
    client.call(1)
    assert (await client.until(DATA, 1)).payload == b"\0"


async def test_6_7_pings_on_a_stream(client: RawClient) -> None:
    client.send(frame(raw.PING, 0, 1, bytes(8)))
    assert await client.end() == PROTOCOL_ERROR


@pytest.mark.parametrize("size", [0, 7, 9])
async def test_6_7_pings_of_another_length(client: RawClient, size: int) -> None:
    client.send(frame(raw.PING, 0, 0, bytes(size)))
    assert await client.end() == FRAME_SIZE_ERROR


async def test_6_8_goaway_on_a_stream(client: RawClient) -> None:
    client.send(frame(raw.GOAWAY, 0, 1, bytes(8)))
    assert await client.end() == PROTOCOL_ERROR


async def test_6_8_goaway_that_is_too_short(client: RawClient) -> None:
    client.send(frame(raw.GOAWAY, 0, 0, bytes(7)))
    assert await client.end() == FRAME_SIZE_ERROR


async def test_6_9_a_window_widened_by_nothing(client: RawClient) -> None:
    client.send(raw.window(0, 0))
    assert await client.end() == PROTOCOL_ERROR


async def test_6_9_a_streams_window_widened_by_nothing(client: RawClient) -> None:
    client.open(1)
    client.send(raw.window(1, 0))
    assert await client.end_of_stream(1) == PROTOCOL_ERROR
    await client.alive(3)


@pytest.mark.parametrize("size", [0, 3, 5])
async def test_6_9_window_updates_of_another_length(client: RawClient, size: int) -> None:
    client.send(frame(raw.WINDOW_UPDATE, 0, 0, bytes(size)))
    assert await client.end() == FRAME_SIZE_ERROR


async def test_6_9_1_a_window_of_one_byte_lets_one_byte_through(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port, (4, 1)) as client:
        client.call(1)
        got = b""
        while len(got) < 7:
            found = await client.until(DATA, 1)
            assert len(found.payload) == 1
            got += found.payload
            client.send(raw.window(1, 1))
        assert got == raw.message(b"\x08\x01")
        await client.until(HEADERS, 1, END_STREAM)


async def test_6_9_1_a_connections_window_that_is_too_wide(client: RawClient) -> None:
    client.send(raw.window(0, 2**31 - 1))
    assert await client.end() == FLOW_CONTROL_ERROR


async def test_6_9_1_a_streams_window_that_is_too_wide(client: RawClient) -> None:
    client.open(1)
    client.send(raw.window(1, 2**31 - 1))
    assert await client.end_of_stream(1) == FLOW_CONTROL_ERROR
    await client.alive(3)


async def test_6_9_2_the_initial_window_may_change_under_a_call(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port, (4, 0)) as client:
        client.call(1)
        await client.until(HEADERS, 1)
        await client.ping()
        assert not [f for f in client.seen if f.kind == DATA]
        client.send(raw.settings((4, 3)))
        assert (await client.until(DATA, 1)).payload == b"\0\0\0"
        client.send(raw.settings((4, 100)))
        assert (await client.until(DATA, 1)).payload == b"\0\x02\x08\x01"


async def test_6_9_2_a_window_may_be_less_than_nothing(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port, (4, 3)) as client:
        client.call(1)
        await client.until(DATA, 1)
        client.send(raw.settings((4, 2)), raw.window(1, 1))
        await client.ping()  # 3 - 3 - 1 + 1: still nothing
        assert len([f for f in client.seen if f.kind == DATA]) == 1
        client.send(raw.window(1, 1))
        assert (await client.until(DATA, 1)).payload == b"\0"


async def test_6_9_2_a_window_that_settings_make_too_wide(client: RawClient) -> None:
    client.open(1)
    client.send(raw.window(1, 2**31 - 1 - 65535), raw.settings((4, 65536)))
    assert await client.end() == FLOW_CONTROL_ERROR


async def test_6_10_continuations_in_a_row(client: RawClient) -> None:
    block = client.block(raw.fields())
    client.send(frame(HEADERS, END_STREAM, 1, block[:3]), frame(CONTINUATION, 0, 1, block[3:9]))
    client.send(frame(CONTINUATION, END_HEADERS, 1, block[9:]))
    assert (await client.answer(1)).fields["grpc-status"] == "12"  # and no message came


async def test_6_10_a_continuation_interrupted(client: RawClient) -> None:
    block = client.block(raw.fields())
    client.send(frame(HEADERS, 0, 1, block[:3]), frame(CONTINUATION, 0, 1, block[3:]))
    client.send(frame(DATA, END_STREAM, 1, raw.EMPTY))
    assert await client.end() == PROTOCOL_ERROR


async def test_6_10_a_continuation_on_stream_0(client: RawClient) -> None:
    client.send(frame(HEADERS, 0, 1, b"\x82"), frame(CONTINUATION, END_HEADERS, 0, b"\x82"))
    assert await client.end() == PROTOCOL_ERROR


async def test_6_10_a_continuation_of_another_stream(client: RawClient) -> None:
    client.send(frame(HEADERS, 0, 1, b"\x82"), frame(CONTINUATION, END_HEADERS, 3, b"\x82"))
    assert await client.end() == PROTOCOL_ERROR


@pytest.mark.parametrize("before", [HEADERS, CONTINUATION, DATA])
async def test_6_10_a_continuation_of_nothing(client: RawClient, before: int) -> None:
    block = client.block(raw.fields())
    if before == CONTINUATION:
        client.send(frame(HEADERS, 0, 1, b""), frame(CONTINUATION, END_HEADERS, 1, block))
    else:
        client.send(frame(HEADERS, END_HEADERS, 1, block))
    if before == DATA:
        client.send(frame(DATA, 0, 1, b"\0"))
    client.send(frame(CONTINUATION, END_HEADERS, 1, b"\x82"))
    assert await client.end() == PROTOCOL_ERROR


# -- 7, 8: codes, messages -----------------------------------------------------------------------


async def test_7_unknown_error_codes_are_taken(client: RawClient) -> None:
    client.open(1)
    client.send(frame(raw.RST_STREAM, 0, 1, number(0xFF)))
    await client.alive(3)
    client.send(frame(raw.GOAWAY, 0, 0, struct.pack(">LL", 0, 0xFF)))
    assert await client.end() is None


async def test_8_1_headers_again_that_do_not_end_the_request(client: RawClient) -> None:
    client.open(1)
    client.open(1, [("x", "y")])
    assert await client.end_of_stream(1) == PROTOCOL_ERROR
    await client.alive(3)


MALFORMED = {
    "8.1.2 an upper case name": [*raw.fields(), ("X-Test", "ok")],
    "8.1.2 a name with a space": [*raw.fields(), ("x test", "ok")],
    "8.1.2 an empty name": [*raw.fields(), ("", "ok")],
    "8.1.2 a value with a line feed": [*raw.fields(), ("x", "a\nb")],
    "8.1.2 a value with a null": [*raw.fields(), ("x", "a\0b")],
    "8.1.2 a value with a space before": [*raw.fields(), ("x", " a")],
    "8.1.2 a value with a tab behind": [*raw.fields(), ("x", "a\t")],
    "8.1.2.1 an unknown pseudo field": [(":test", "ok"), *raw.fields()],
    "8.1.2.1 a response's pseudo field": [(":status", "200"), *raw.fields()],
    "8.1.2.1 a pseudo field behind others": [*raw.fields(), (":authority", "x")],
    "8.1.2.2 connection": [*raw.fields(), ("connection", "keep-alive")],
    "8.1.2.2 transfer-encoding": [*raw.fields(), ("transfer-encoding", "chunked")],
    "8.1.2.2 te other than trailers": raw.fields(te="trailers, deflate"),
    "8.1.2.3 an empty path": raw.fields(""),
    "8.1.2.3 no method": raw.fields(method=None),
    "8.1.2.3 no scheme": raw.fields(scheme=None),
    "8.1.2.3 no path": raw.fields(path=None),
    "8.1.2.3 two methods": [(":method", "POST"), *raw.fields()],
    "8.1.2.3 two schemes": [(":scheme", "http"), *raw.fields()],
    "8.1.2.3 two paths": [(":path", "/"), *raw.fields()],
    "8.1.2.6 a length that is none": [*raw.fields(), ("content-length", "5x")],
    "8.1.2.6 two lengths": [*raw.fields(), ("content-length", "5"), ("content-length", "6")],
}  # fmt: skip


@pytest.mark.parametrize("given", MALFORMED.values(), ids=MALFORMED)
async def test_8_1_2_malformed_requests(client: RawClient, given: raw.Fields) -> None:
    client.open(1, given, end=True)
    assert await client.end_of_stream(1) == PROTOCOL_ERROR
    await client.alive(3)


@pytest.mark.parametrize("trailer", [(":method", "POST"), ("X", "y"), ("connection", "close")])
async def test_8_1_2_1_malformed_trailers(client: RawClient, trailer: tuple[str, str]) -> None:
    client.open(1)
    client.open(1, [trailer], end=True)
    assert await client.end_of_stream(1) == PROTOCOL_ERROR
    await client.alive(3)


@pytest.mark.parametrize("length", [4, 6, 10**17])
@pytest.mark.parametrize("frames", [1, 2])
async def test_8_1_2_6_a_length_that_the_data_has_not(
    client: RawClient, length: int, frames: int
) -> None:
    client.open(1, [*raw.fields(), ("content-length", str(length))])
    if frames == 2:
        client.send(frame(DATA, 0, 1, raw.EMPTY[:2]))
    client.send(frame(DATA, END_STREAM, 1, raw.EMPTY[2:] if frames == 2 else raw.EMPTY))
    assert await client.end_of_stream(1) == PROTOCOL_ERROR


async def test_8_1_2_6_a_length_and_no_data(client: RawClient) -> None:
    client.open(1, [*raw.fields(), ("content-length", "5")], end=True)
    assert await client.end_of_stream(1) == PROTOCOL_ERROR


async def test_8_1_2_6_a_length_that_is_right(client: RawClient) -> None:
    client.call(1, [*raw.fields(), ("content-length", "5")])
    assert (await client.answer(1)).fields["grpc-status"] == "0"


async def test_8_2_a_push_promise(client: RawClient) -> None:
    client.send(frame(raw.PUSH_PROMISE, END_HEADERS, 1, number(2)))
    assert await client.end() == PROTOCOL_ERROR
