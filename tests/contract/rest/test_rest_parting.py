"""A client that goes on sending when it has been refused still reads the refusal."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator

import pytest
import uvloop

from serving.frontends import parting
from serving.frontends.rest.server import RestFrontEnd
from tests.contract.rest.running import ECHO, MIB, Serving, until
from tests.doubles.plane import StubPlane

WAIT_S = 20.0
PIECE = b"x" * 65_536
POST = b"POST /predict HTTP/1.1\r\nhost: t\r\n"

REFUSED = {
    "length": (POST + b"content-length: 100000000\r\n\r\n", 413),
    "chunks": (
        POST + b"transfer-encoding: chunked\r\n\r\n" + (b"10000\r\n" + PIECE + b"\r\n") * 40,
        413,
    ),
    "head": (b"GET /v2 HTTP/1.1\r\nhost: t\r\n" + b"a: b\r\n" * 14_000, 431),
    "no-http": (b"\x00\x01\x02\x03\r\n\r\n", 400),
    "path": (
        b"POST /none HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: 9999999\r\n\r\n",
        404,
    ),
}


@contextlib.asynccontextmanager
async def plain_socket(front: RestFrontEnd) -> AsyncIterator[socket.socket]:
    """Connect with nothing between the test and the kernel."""
    with socket.socket() as client:
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", front.port))
        yield client


async def parted(front: RestFrontEnd) -> None:
    """Wait until the server has closed its side of the only connection, which still stands."""
    await until(lambda: any(known._parting is not None for known in front._connections()))


async def read_all(client: socket.socket) -> bytes:
    """Read up to the end; fails when the connection is reset."""
    loop, found = asyncio.get_running_loop(), b""
    async with asyncio.timeout(WAIT_S):
        while part := await loop.sock_recv(client, 1 << 16):
            found += part
    return found


async def send_for_ever(client: socket.socket) -> None:
    """Send until the connection ends."""
    async with asyncio.timeout(WAIT_S):
        while True:
            await asyncio.get_running_loop().sock_sendall(client, PIECE)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("sent", REFUSED)
def test_a_client_that_sends_on_reads_why(serving: Serving, sent: str) -> None:
    request, status = REFUSED[sent]

    async def story() -> None:
        loop = asyncio.get_running_loop()
        async with serving(StubPlane(ECHO), max_request_mb=1) as front:
            async with plain_socket(front) as client:
                await loop.sock_sendall(client, request)
                await parted(front)
                for _ in range(20):
                    await loop.sock_sendall(client, PIECE)
                    await asyncio.sleep(0.005)
                found = await read_all(client)
                assert found.startswith(b"HTTP/1.1 %d " % status)
                assert found.lower().count(b"connection: close") == 1
            await until(lambda: not front._connections())

    asyncio.run(story())
    uvloop.run(story())


async def test_a_client_that_sends_for_ever_is_dropped(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parting, "PARTING_S", 0.3)
    loop = asyncio.get_running_loop()
    async with serving(StubPlane(ECHO)) as front, plain_socket(front) as client:
        await loop.sock_sendall(client, REFUSED["no-http"][0])
        await parted(front)
        began = time.monotonic()
        with pytest.raises(OSError, match=r"[Rr]eset|pipe"):
            await send_for_ever(client)
        assert time.monotonic() - began > 0.3
        await until(lambda: not front._connections())


async def test_a_client_that_has_sent_all_is_closed_at_once(serving: Serving) -> None:
    loop = asyncio.get_running_loop()
    body = b'{"instances": [{"x": [1, 2]}]}'
    head = POST + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with serving(StubPlane(ECHO)) as front, plain_socket(front) as client:
        await loop.sock_sendall(client, head + body)
        assert (await read_all(client)).startswith(b"HTTP/1.1 200 ")
        await until(lambda: not front._connections())  # though the client has not hung up


async def test_a_client_that_reads_once_it_has_sent_a_long_body_reads_why(
    serving: Serving,
) -> None:
    loop = asyncio.get_running_loop()
    head = REFUSED["length"][0]
    small = serving(StubPlane(ECHO), max_request_mb=1)
    async with small as front, plain_socket(front) as client:
        await loop.sock_sendall(client, head)
        await parted(front)
        async with asyncio.timeout(WAIT_S):
            await loop.sock_sendall(client, bytes(100_000_000))
        assert (await read_all(client)).startswith(b"HTTP/1.1 413 ")


async def test_a_body_of_any_length_is_refused_so_that_its_client_reads_it(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond what is dropped of it, it is left unread for a while, and its client not reset."""
    monkeypatch.setattr(parting, "BODY_BYTES", 4 * MIB)
    loop = asyncio.get_running_loop()
    small = serving(StubPlane(ECHO), max_request_mb=1)
    async with small as front, plain_socket(front) as client:
        await loop.sock_sendall(client, REFUSED["length"][0])
        await parted(front)
        sending = asyncio.ensure_future(loop.sock_sendall(client, bytes(64 * MIB)))
        found = await asyncio.wait_for(loop.sock_recv(client, 1 << 16), WAIT_S)
        assert found.startswith(b"HTTP/1.1 413 ")
        assert not sending.done()
        sending.cancel()
        await asyncio.wait([sending])
