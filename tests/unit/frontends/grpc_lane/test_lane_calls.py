"""gRPC's duties on the lane, frame by frame: ends, deadlines, counts of messages, draining."""

from __future__ import annotations

import asyncio
import gzip
import logging
import struct
import time
from collections.abc import AsyncIterator

import grpc
import pytest
import uvloop

from serving.frontends.grpc.lane import connection, server
from serving.frontends.grpc.lane.call import HEAVY_BYTES
from serving.frontends.grpc.reflection import V1
from serving.frontends.grpc.server import GrpcFrontEnd
from serving.tensor import FP32
from tests.doubles.plane import StubPlane
from tests.unit.frontends.grpc.running import channel, infer, until
from tests.unit.frontends.grpc.served import echo, raw_request

from . import raw
from .raw import DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, frame
from .running import ONES, HeldPlane, connections_of, engine_of, infer_message, lane

INFER_FIELDS = raw.fields(raw.INFER)
CALL = raw.message(infer_message())


@pytest.fixture
async def front() -> AsyncIterator[GrpcFrontEnd]:
    async with lane() as running:
        yield running


async def ends(front: GrpcFrontEnd, fields: raw.Fields, data: bytes | None) -> raw.Answer:
    """Make one call, with all the data or with none, and return how it ends."""
    async with raw.connection(front.port) as client:
        if data is None:
            client.open(1, fields, end=True)
        else:
            client.call(1, fields, data)
        answer = await client.answer(1)
        assert answer.reset is None
        await client.alive(3)
        return answer


async def test_an_answer_has_the_form_that_grpc_asks_for(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port) as client:
        client.call(1)
        answer = await client.answer(1)
        assert answer.fields == {
            ":status": "200", "content-type": "application/grpc", "grpc-status": "0",
        }  # fmt: skip
        assert answer.data == raw.message(b"\x08\x01")
        kinds = [(f.kind, f.flags) for f in client.seen if f.stream == 1]
        last = END_HEADERS | END_STREAM
        assert kinds == [(HEADERS, END_HEADERS), (DATA, 0), (HEADERS, last)]


async def test_a_refusal_is_one_block(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port) as client:
        client.call(1, INFER_FIELDS, raw.message(b"\xff"))
        answer = await client.answer(1)
        assert answer.fields["grpc-status"] == "3"
        assert answer.fields["error-code"] == "bad_message"
        assert [f.kind for f in client.seen if f.stream == 1] == [HEADERS]


@pytest.mark.parametrize("kind", [None, "application/json", "text/plain", "application/grpc-web"])
async def test_what_is_no_grpc_is_told_by_http(front: GrpcFrontEnd, kind: str | None) -> None:
    answer = await ends(front, raw.fields(content_type=kind), raw.EMPTY)
    assert answer.fields == {":status": "415"}


async def test_a_call_needs_no_te(front: GrpcFrontEnd) -> None:
    assert (await ends(front, raw.fields(te=None), raw.EMPTY)).fields["grpc-status"] == "0"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (None, "12"),  # no message
        (b"", "12"),
        (raw.EMPTY + raw.EMPTY, "12"),
        (raw.EMPTY[:3], "13"),  # half a prefix
        (raw.message(b"abc")[:-1], "13"),
        (raw.EMPTY + b"\0", "13"),
        (b"\7\0\0\0\0", "13"),  # neither compressed nor not
        (b"\1\0\0\0\0", "13"),  # compressed, and nobody says how
    ],
)
async def test_a_unary_call_has_one_whole_message(
    front: GrpcFrontEnd, data: bytes | None, code: str
) -> None:
    answer = await ends(front, raw.fields(), data)
    assert answer.fields["grpc-status"] == code
    assert answer.fields["grpc-message"]


async def test_a_second_message_is_not_waited_for(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port) as client:
        client.open(1)
        client.send(frame(DATA, 0, 1, raw.EMPTY + raw.EMPTY))
        assert (await client.answer(1)).fields["grpc-status"] == "12"
        assert await client.end_of_stream(1) == raw.NO_ERROR


@pytest.mark.parametrize("encoding", ["br", "snappy", "x"])
async def test_unknown_encodings_are_told_what_is_known(front: GrpcFrontEnd, encoding: str) -> None:
    answer = await ends(front, [*raw.fields(), ("grpc-encoding", encoding)], raw.EMPTY)
    assert answer.fields["grpc-status"] == "12"
    assert answer.fields["grpc-accept-encoding"] == "identity,deflate,gzip"


async def test_damaged_packed_messages_fail_alone(front: GrpcFrontEnd) -> None:
    for data in (b"none", gzip.compress(b"x")[:-1], bytes(HEAVY_BYTES + 1)):
        packed = [*raw.fields(), ("grpc-encoding", "gzip")]
        async with raw.connection(front.port) as client:
            client.open(1, packed)
            whole = raw.message(data, compressed=True)
            client.windows[0] = 1 << 24
            client.initial_window = 1 << 20
            await client.upload(1, whole)
            answer = await client.answer(1)
            assert answer.fields["grpc-status"] == "13"
            assert "Decompression failed" in answer.fields["grpc-message"]


async def test_a_timeout_that_is_none_is_told(front: GrpcFrontEnd) -> None:
    answer = await ends(front, [*raw.fields(), ("grpc-timeout", "soon")], raw.EMPTY)
    assert answer.fields["grpc-status"] == "13"
    assert "grpc-timeout" in answer.fields["grpc-message"]


async def test_the_server_keeps_the_deadline_of_a_client_that_does_not() -> None:
    plane = HeldPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        before = time.monotonic()
        client.call(1, [*INFER_FIELDS, ("grpc-timeout", "150m")], CALL)
        answer = await client.answer(1)
        assert answer.fields["grpc-status"] == "4"
        assert 0.15 <= time.monotonic() - before < raw.WAIT_S
        assert plane.abandoned == 1
        await client.alive(3)


async def test_a_deadline_passes_while_the_message_is_still_coming(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port) as client:
        client.open(1, [*INFER_FIELDS, ("grpc-timeout", "50m")])
        client.send(frame(DATA, 0, 1, CALL[:7]))
        answer = await client.answer(1)
        assert answer.fields["grpc-status"] == "4"
        assert await client.end_of_stream(1) == raw.NO_ERROR
        client.send(frame(DATA, END_STREAM, 1, CALL[7:]))
        await client.alive(3)


async def test_a_deadline_ends_a_stream_that_is_watched(front: GrpcFrontEnd) -> None:
    async with raw.connection(front.port) as client:
        client.call(1, [*raw.fields("/grpc.health.v1.Health/Watch"), ("grpc-timeout", "100m")])
        answer = await client.answer(1)
        assert answer.data == raw.message(b"\x08\x01")
        assert answer.fields["grpc-status"] == "4"


async def test_calls_that_end_in_time_are_not_kept() -> None:
    async with lane() as front, raw.connection(front.port) as client:
        for stream in range(1, 41, 2):
            client.call(stream, [*raw.fields(), ("grpc-timeout", "1H")])
            assert (await client.answer(stream)).fields["grpc-status"] == "0"
        shared = engine_of(front)._shared
        assert not any(shared.deadlines._slots.values())
        assert not shared.tasks
        assert len(connections_of(front)[0]._streams) == 0


async def test_a_reset_call_is_withdrawn() -> None:
    plane = HeldPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        client.call(1, INFER_FIELDS, CALL)
        client.call(3, INFER_FIELDS, CALL)
        await until(lambda: len(plane.claims) == 2)
        client.send(frame(raw.RST_STREAM, 0, 1, struct.pack(">L", raw.CANCEL)))
        await until(lambda: plane.abandoned == 1)
        plane.answer()
        assert (await client.answer(3)).fields["grpc-status"] == "0"
        assert not [f for f in client.seen if f.stream == 1]


async def test_a_client_that_hangs_up_is_withdrawn() -> None:
    plane = HeldPlane()
    async with lane(plane) as front:
        async with raw.connection(front.port) as client:
            for stream in (1, 3, 5):
                client.call(stream, INFER_FIELDS, CALL)
            await until(lambda: len(plane.claims) == 3)
        await until(lambda: plane.abandoned == 3)
        await until(lambda: not connections_of(front))


async def test_a_client_that_stops_sending_is_gone() -> None:
    """Without a way to widen windows or to cancel, a half-closed client is none; as for gRPC."""
    plane = HeldPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        client.call(1, INFER_FIELDS, CALL)
        await until(lambda: len(plane.claims) == 1)
        client.writer.write_eof()
        assert await client.end() is None
        assert plane.abandoned == 1


async def test_an_answer_there_before_the_cancellation_is_given_back() -> None:
    plane = HeldPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        client.call(1, INFER_FIELDS, CALL)
        await until(lambda: len(plane.claims) == 1)
        (known,) = connections_of(front)
        plane.answer()  # the exchange is told later in this turn
        known._streams.reset_by_client(1)
        await until(lambda: plane.released == 1)
        await client.alive(3)
    assert plane.abandoned == 1  # it was on its way, and nobody had been told of it


async def test_answers_of_one_turn_are_written_together() -> None:
    plane = HeldPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        await client.alive(1)
        for stream in range(3, 43, 2):
            client.call(stream, INFER_FIELDS, CALL)
        await until(lambda: len(plane.claims) == 20)
        (known,) = connections_of(front)
        writes: list[int] = []
        out = known._out
        before = out._transport

        class Watched:
            def __getattr__(self, name: str) -> object:
                return getattr(before, name)

            def write(self, data: bytes) -> None:
                writes.append(len(data))
                before.write(data)

        out._transport = Watched()  # type: ignore[assignment]
        plane.answer()
        for stream in range(3, 43, 2):
            assert stream in {f.stream for f in client.seen} or await client.answer(stream)
        assert len(writes) == 1


async def test_a_fault_in_a_method_says_nothing_of_its_inside(
    front: GrpcFrontEnd, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = front._health
    assert health is not None

    def fail(_service: str) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(health, "_status", fail)
    answer = await ends(front, raw.fields("/grpc.health.v1.Health/Check"), raw.EMPTY)
    assert answer.fields["grpc-status"] == "13"
    assert "secret" not in str(answer)
    assert "/secret/path" in caplog.text
    assert caplog.records[0].levelno == logging.ERROR


async def test_messages_that_a_service_cannot_read_end_the_call(front: GrpcFrontEnd) -> None:
    for path in ("/grpc.health.v1.Health/Check", f"/{V1}/ServerReflectionInfo"):
        answer = await ends(front, raw.fields(path), raw.message(b"\xff"))
        assert answer.fields["grpc-status"] == "13"


async def test_a_stream_may_be_half_a_message_when_it_ends(front: GrpcFrontEnd) -> None:
    answer = await ends(front, raw.fields(f"/{V1}/ServerReflectionInfo"), b"\0\0\0")
    assert answer.fields["grpc-status"] == "13"


async def test_a_stream_of_no_messages_is_answered_with_none(front: GrpcFrontEnd) -> None:
    answer = await ends(front, raw.fields(f"/{V1}/ServerReflectionInfo"), None)
    assert (answer.fields["grpc-status"], answer.data) == ("0", b"")


# -- the end of the server ------------------------------------------------------------------------


async def test_drain_tells_clients_first_and_then_for_good() -> None:
    """RFC 9113, section 6.8: calls begun before the client knows are still taken."""
    plane = HeldPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        client.call(1, INFER_FIELDS, CALL)
        await until(lambda: len(plane.claims) == 1)
        (known,) = connections_of(front)
        known.drain()
        told = await client.until(GOAWAY)
        assert (told.number, told.error) == (2**31 - 1, raw.NO_ERROR)
        ping = await client.next()
        assert ping is not None
        client.call(3, INFER_FIELDS, CALL)
        client.send(frame(raw.PING, raw.ACK, 0, ping.payload))
        told = await client.until(GOAWAY)
        assert (told.number, told.error) == (3, raw.NO_ERROR)
        client.call(5, INFER_FIELDS, CALL)
        await until(lambda: len(plane.claims) == 2)
        plane.answer()
        for stream in (1, 3):
            assert (await client.answer(stream)).fields["grpc-status"] == "0"
        assert await client.end() is None
    assert len(plane.requests) == 2


async def test_stop_ends_what_is_left_with_a_status_to_try_again_on() -> None:
    plane = HeldPlane()
    async with lane(plane) as front, raw.connection(front.port) as client:
        client.call(1, INFER_FIELDS, CALL)
        await until(lambda: len(plane.claims) == 1)
        stopping = asyncio.ensure_future(engine_of(front).stop(0.05))
        while (found := await client.next()) is not None:
            if found.kind == HEADERS:
                assert dict(client.decoder.decode(found.payload))["grpc-status"] == "14"
                break
        await asyncio.wait_for(stopping, raw.WAIT_S)
        assert plane.abandoned == 1


async def test_stop_does_not_wait_for_clients_that_hang() -> None:
    async with lane() as front, raw.connection(front.port) as client:
        client.open(1)
        await client.ping()
        began = time.monotonic()
        await asyncio.wait_for(engine_of(front).stop(0.2), raw.WAIT_S)
        assert time.monotonic() - began < raw.WAIT_S
        with pytest.raises(OSError, match="refused|Connect"):
            await asyncio.open_connection("127.0.0.1", front.port)


async def test_no_call_is_lost_when_the_server_drains_under_load() -> None:
    plane = StubPlane(echo("m", FP32))
    message = raw_request("m", ("FP32", ONES))
    async with lane(plane) as front, channel(front.port) as opened:
        answered = 0

        async def caller() -> int:
            nonlocal answered
            while True:
                try:
                    await infer(opened, message)
                    answered += 1
                except grpc.aio.AioRpcError as error:
                    return int(error.code().value[0])

        callers = [asyncio.ensure_future(caller()) for _ in range(16)]
        await until(lambda: answered > 200)
        await front.drain(raw.WAIT_S)
        codes = await asyncio.gather(*callers)
    assert set(codes) == {14}
    assert answered == plane.released == len(plane.requests)


def test_the_lane_runs_on_uvloop_and_leaves_nothing() -> None:
    async def serve() -> None:
        async with lane() as front, raw.connection(front.port) as client:
            await client.alive(1)
            client.open(3, raw.fields(f"/{V1}/ServerReflectionInfo"))
            await client.ping()
            await front.stop()
            await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    uvloop.run(serve())


def test_what_is_swept_each_second_is_bounded_by_minutes() -> None:
    assert server.SWEEP_S <= connection.OPENING_TIMEOUT_S / 10
