"""The REST front end's start, drain and stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from pathlib import Path

import pytest
import uvloop

from serving.config import ServerSettings
from serving.errors import ConfigError, Unavailable
from serving.frontends.rest.server import RestFrontEnd
from tests.contract.rest.running import (
    CALL,
    ECHO,
    V2,
    HeldPlane,
    RefusingPlane,
    Serving,
    chunked,
    connection,
    post,
    response_of,
    until,
)
from tests.doubles.plane import StubPlane


async def test_a_taken_port_is_an_error_that_names_flag_and_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        front = RestFrontEnd(StubPlane(ECHO), ServerSettings(Path(), rest_port=port))
        with pytest.raises(ConfigError) as caught:
            await front.start()
        await front.stop()
    assert (caught.value.where, caught.value.given) == ("--rest-port", str(port))


@pytest.mark.parametrize(
    ("host", "port", "flag"),
    [
        ("192.0.2.1", 0, "--host"),
        ("no such host", 0, "--host"),
        ("127.0.0.1", 99999, "--rest-port"),
    ],
)
async def test_an_address_that_cannot_be_had_names_the_flag(
    host: str, port: int, flag: str
) -> None:
    front = RestFrontEnd(StubPlane(ECHO), ServerSettings(Path(), host=host, rest_port=port))
    with pytest.raises(ConfigError) as caught:
        await front.start()
    await front.stop()
    assert caught.value.where == flag


async def test_drain_finishes_what_was_accepted_and_takes_nothing_more(serving: Serving) -> None:
    plane = HeldPlane(ECHO)
    async with (
        serving(plane) as front,
        connection(front) as (idle, idle_writer),
        connection(front) as (reader, writer),
    ):
        idle_writer.write(b"GET /v2 HTTP/1.1\r\nhost: t\r\n\r\n")
        assert (await response_of(idle))[0] == 200
        writer.write(post(CALL))
        await until(lambda: bool(plane.held))
        drained = asyncio.create_task(front.drain(10))
        assert await asyncio.wait_for(idle.read(), 30) == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", front.port)
        assert not drained.done()
        plane.answer_all()
        status, headers, _ = await response_of(reader)
        assert (status, headers["connection"]) == (200, "close")
        await asyncio.wait_for(drained, 30)
    assert plane.released == 1


async def test_drain_ends_at_its_deadline_and_stop_abandons_the_rest(serving: Serving) -> None:
    plane = HeldPlane(ECHO)
    async with serving(plane) as front, connection(front) as (reader, writer):
        writer.write(post(CALL))
        await until(lambda: bool(plane.held))
        start = time.monotonic()
        await front.drain(0.1)
        assert 0.1 <= time.monotonic() - start < 30
        assert plane.abandoned == 0
        await front.stop()
        assert plane.abandoned == 1
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    assert plane.released == 0


def test_calls_disconnects_and_drain_work_on_the_servers_own_event_loop(serving: Serving) -> None:
    plane = HeldPlane(ECHO)

    async def scenario() -> None:
        async with serving(plane) as front:
            async with connection(front) as (_, writer):
                writer.write(post(CALL))
                await until(lambda: len(plane.held) == 1)
            await until(lambda: plane.abandoned == 1)
            plane.held.clear()
            async with connection(front) as (reader, writer):
                writer.write(post(CALL))
                await until(lambda: len(plane.held) == 1)
                drained = asyncio.create_task(front.drain(10))
                await asyncio.sleep(0)
                plane.answer_all()
                status, headers, body = await response_of(reader)
                assert (status, headers["connection"]) == (200, "close")
                assert json.loads(body)["instances"] == [{"x": [1.0, 2.0]}]
                await drained

    uvloop.run(scenario())
    assert (plane.released, plane.abandoned) == (1, 1)


@pytest.mark.parametrize("request_", [post(CALL), chunked(CALL), post(V2, "/v2/models/echo/infer")])
async def test_server_that_goes_down_ends_the_connection_with_its_refusal(
    serving: Serving, request_: bytes
) -> None:
    gone = Unavailable("the server is going down", code="draining", retry_after_s=5.0)
    async with serving(RefusingPlane(1, gone)) as front, connection(front) as (reader, writer):
        writer.write(request_)
        assert (await response_of(reader))[0] == 200
        writer.write(request_)
        status, headers, _ = await response_of(reader)
        assert (status, headers["connection"]) == (503, "close")
        assert await asyncio.wait_for(reader.read(), 30) == b""
