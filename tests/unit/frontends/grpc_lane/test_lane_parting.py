"""A client that goes on sending when the lane has ended its connection still reads why."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from serving.frontends import parting
from serving.frontends.grpc.lane import server
from serving.frontends.grpc.lane.connection import Connection
from serving.frontends.grpc.server import GrpcFrontEnd
from tests.certificates import Authority
from tests.unit.frontends.grpc.running import until

from . import raw
from .raw import DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, PING, frame
from .running import HeldPlane, connections_of, infer_message, lane

Story = Callable[[], Coroutine[Any, Any, None]]
GREETING = raw.PREFACE + raw.settings() + frame(raw.SETTINGS, raw.ACK, 0)
FLOOD = frame(PING, 0, 0, bytes(8)) * 3000
MORE = frame(PING, 0, 0, bytes(8)) * 1000


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def told(request: pytest.FixtureRequest) -> Callable[[Story], None]:
    """Run a story on either event loop."""

    def run(story: Story) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(story())

    return run


@contextlib.asynccontextmanager
async def plain_socket(port: int) -> AsyncIterator[socket.socket]:
    """Connect with nothing between the test and the kernel, and greet."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, GREETING)
        yield client


async def ended(front: GrpcFrontEnd) -> Connection:
    """Wait until the server has ended the only connection, which its client still holds."""
    await until(lambda: any(known._over for known in connections_of(front)))
    return connections_of(front)[0]


async def all_that_comes(client: socket.socket) -> bytes:
    """Read up to the end; fails when the connection is reset."""
    loop, found = asyncio.get_running_loop(), b""
    async with asyncio.timeout(raw.WAIT_S):
        while part := await loop.sock_recv(client, 1 << 16):
            found += part
    return found


def last_code(data: bytes) -> int:
    """Return the code of the GOAWAY that the frames in ``data`` end with."""
    found, at = None, 0
    while at < len(data):
        end = at + 9 + int.from_bytes(data[at : at + 3])
        found = raw.Frame(data[at + 3], data[at + 4], 0, data[at + 9 : end])
        at = end
    assert at == len(data)
    assert found is not None
    assert found.kind == raw.GOAWAY
    return found.error


def test_a_client_that_sends_on_after_a_fault_reads_the_goaway(
    told: Callable[[Story], None],
) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        async with lane() as front:
            async with plain_socket(front.port) as client:
                await loop.sock_sendall(client, FLOOD)
                await ended(front)
                for _ in range(20):  # what a closed socket answers with a reset
                    await loop.sock_sendall(client, MORE)
                    await asyncio.sleep(0.005)
                assert last_code(await all_that_comes(client)) == ENHANCE_YOUR_CALM
            await until(lambda: not connections_of(front))

    told(story)


def test_a_client_that_sends_on_in_a_drain_reads_its_last_answer(
    told: Callable[[Story], None],
) -> None:
    async def story() -> None:
        plane = HeldPlane()
        async with lane(plane) as front, raw.connection(front.port) as client:
            client.call(1, raw.fields(raw.INFER), raw.message(infer_message()))
            await until(lambda: len(plane.claims) == 1)
            (known,) = connections_of(front)
            known.drained()
            plane.answer()
            await until(lambda: known._over)
            for stream in range(3, 43, 2):
                client.call(stream, raw.fields(raw.INFER), raw.message(infer_message()))
                await asyncio.sleep(0.005)
            assert (await client.answer(1)).fields["grpc-status"] == "0"
            assert await client.end() is None  # the GOAWAY came before the answer
            assert [f.error for f in client.seen if f.kind == raw.GOAWAY] == [raw.NO_ERROR]
            assert len(plane.requests) == 1

    told(story)


def test_a_client_with_tls_that_sends_on_reads_the_goaway(
    told: Callable[[Story], None], tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    own = authority.sign("own")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])

    async def story() -> None:
        tls = {"tls_cert": own.certificate, "tls_key": own.key}
        async with (
            lane(HeldPlane(), **tls) as front,
            raw.connection(front.port, ssl=context) as client,
        ):
            client.send(FLOOD)
            await ended(front)
            for _ in range(20):
                client.send(MORE)
                await asyncio.sleep(0.005)
            code = None
            while code is None:
                found = await client.next()
                assert found is not None
                code = found.error if found.kind == raw.GOAWAY else None
            assert code == ENHANCE_YOUR_CALM

    told(story)


def test_a_client_of_http1_that_sends_on_reads_its_answer(told: Callable[[Story], None]) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        async with lane() as front:
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, ("127.0.0.1", front.port))
                head = b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 1000000\r\n\r\n"
                await loop.sock_sendall(client, head)
                await ended(front)
                for _ in range(10):
                    await loop.sock_sendall(client, bytes(100_000))
                assert b"This port speaks gRPC" in await all_that_comes(client)

    told(story)


def test_a_client_that_never_hangs_up_is_dropped(
    told: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SWEEP_S", 0.02)
    monkeypatch.setattr(parting, "PARTING_S", 0.3)

    async def story() -> None:
        async with lane() as front, plain_socket(front.port) as client:
            began = time.monotonic()
            await asyncio.get_running_loop().sock_sendall(client, FLOOD)
            await ended(front)
            await until(lambda: not connections_of(front))
            assert time.monotonic() - began > 0.3

    told(story)


def test_no_more_is_read_of_a_client_than_a_bound(
    told: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parting, "PARTING_BYTES", 1 << 20)
    monkeypatch.setattr(server, "SWEEP_S", 0.02)
    monkeypatch.setattr(parting, "PARTING_S", 0.5)
    most = (1 << 20) + (64 << 10)

    async def story() -> None:
        loop = asyncio.get_running_loop()
        async with lane() as front, plain_socket(front.port) as client:
            await loop.sock_sendall(client, FLOOD)
            parts = (await ended(front))._parting
            assert parts is not None
            with contextlib.suppress(OSError):  # it cannot be sent, and ends in a reset
                await loop.sock_sendall(client, bytes(64 << 20))
            await until(lambda: not connections_of(front))
            assert parts._left >= (1 << 20) - most

    told(story)


async def test_what_runs_ends_when_the_connection_does() -> None:
    plane = HeldPlane()
    async with lane(plane) as front, plain_socket(front.port) as client:
        encoder = raw.hpack.Encoder()
        head = frame(HEADERS, END_HEADERS, 1, bytes(encoder.encode(raw.fields(raw.INFER))))
        body = frame(DATA, END_STREAM, 1, raw.message(infer_message()))
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, head + body + FLOOD)
        await ended(front)
        assert plane.abandoned == len(plane.requests) == 1
        assert last_code(await all_that_comes(client)) == ENHANCE_YOUR_CALM
