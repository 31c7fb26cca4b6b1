"""What goes by the lane, and that a call looks the same whichever way it goes."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from serving.frontends.rest import server
from serving.frontends.rest.app import RestApp
from tests.contract.rest.running import (
    CALL,
    ECHO,
    V2,
    Serving,
    binary,
    chunked,
    connection,
    post,
    response_of,
)
from tests.contract.rest.running import serving as serving_by_lane
from tests.doubles.plane import StubPlane

# Which way


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post(CALL), 200),
        (post(V2, "/v2/models/echo/infer"), 200),
        (post(V2, "/v2/models/echo/versions/1/infer"), 200),
        (binary(), 200),
        (post({}), 400),
        (post({}, "/v2/models/echo/infer"), 400),
        (post(V2, "/v2/models/nobody/infer"), 404),
    ],
)
async def test_plain_calls_do_not_pass_through_asgi(
    sent: bytes, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any) -> None:
        raise AssertionError("this went the ordinary way")

    async with serving_by_lane(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        monkeypatch.setattr(RestApp, "__call__", refuse)
        for _ in range(2):  # by the parser, and by a head that is known
            writer.write(sent)
            assert (await response_of(reader))[0] == status


async def test_both_ways_answer_with_the_same_bytes() -> None:
    calls = [
        post(CALL, head="x-request-id: r1\r\n"),
        binary(),
        post({"instances": []}, head="x-request-id: r1\r\n"),
        post(V2, "/v2/models/nobody/infer", head="x-request-id: r1\r\n"),
        post(CALL, head="x-request-id: r1\r\nconnection: close\r\n"),
    ]
    answers = []
    for lane in (True, False):
        async with (
            serving_by_lane(StubPlane(ECHO), lane=lane) as front,
            connection(front) as (reader, writer),
        ):
            found = []
            for call in calls:
                writer.write(call)
                status, headers, body = await response_of(reader)
                assert headers.pop("date").endswith("gmt")
                found.append((status, list(headers.items()), body))
            assert await asyncio.wait_for(reader.read(), 30) == b""
            answers.append(found)
    assert answers[0] == answers[1]


async def test_the_date_is_renewed(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        for date in ("one day", "another day"):
            monkeypatch.setattr(server, "formatdate", lambda date=date, **_: date)
            front._tick()
            for text in (post(CALL), post({})):
                writer.write(text)
                assert (await response_of(reader))[1]["date"] == date


# Heads and bodies


async def test_a_known_head_is_read_with_whatever_body_follows() -> None:
    plane = StubPlane(ECHO)
    calls = [{"instances": [[i % 10, 2]]} for i in range(12)]
    async with serving_by_lane(plane) as front, connection(front) as (reader, writer):
        for call in calls:
            writer.write(post(call))
            _, _, body = await response_of(reader)
            assert json.loads(body)["instances"][0]["x"][0] == call["instances"][0][0]
        writer.write(b"".join(map(post, calls)))  # several in one read
        for call in calls:
            _, _, body = await response_of(reader)
            assert json.loads(body)["instances"][0]["x"][0] == call["instances"][0][0]
        for cut in (30, len(post(CALL)) - 5):  # one in two reads
            writer.write(post(CALL)[:cut])
            before = len(plane.requests)
            await asyncio.sleep(0.01)
            assert len(plane.requests) == before
            writer.write(post(CALL)[cut:])
            assert (await response_of(reader))[0] == 200


async def test_a_request_id_in_a_new_head_is_not_that_of_an_earlier_one(serving: Serving) -> None:
    plane = StubPlane(ECHO)
    async with serving(plane) as front, connection(front) as (reader, writer):
        for id in ("a", "b", "b", "a"):
            writer.write(post(CALL, head=f"x-request-id: {id}\r\n"))
            _, headers, _ = await response_of(reader)
            assert headers["x-request-id"] == plane.requests[-1].id == id


@pytest.mark.parametrize("body_at", [0, 40])
async def test_a_body_may_come_byte_by_byte(serving: Serving, body_at: int) -> None:
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        text = post(CALL)
        for index in range(body_at, len(text)):
            writer.write(text[index if index > body_at else 0 : index + 1])
            await asyncio.sleep(0)
        status, _, body = await response_of(reader)
    assert (status, json.loads(body)["instances"]) == (200, [{"x": [1.0, 2.0]}])


async def test_a_client_that_expects_100_gets_it(serving: Serving) -> None:
    text = post(CALL, head="expect: 100-continue\r\n")
    head, body = text.split(b"\r\n\r\n")
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        writer.write(head + b"\r\n\r\n")
        assert (await response_of(reader))[0] == 100
        writer.write(body)
        assert (await response_of(reader))[0] == 200


async def test_a_small_chunked_call_is_answered(serving: Serving) -> None:
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        writer.write(chunked(CALL))
        assert (await response_of(reader))[0] == 200


async def test_a_query_does_not_hide_the_route(serving: Serving) -> None:
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        writer.write(post(CALL, "/predict?trace=1"))
        assert (await response_of(reader))[0] == 200


@pytest.mark.parametrize(
    "text",
    [
        post(CALL, head="connection: close\r\n"),
        post(CALL).replace(b"HTTP/1.1", b"HTTP/1.0"),
        post({}, head="connection: close\r\n"),
    ],
)
async def test_who_wants_the_connection_closed_finds_it_closed(
    serving: Serving, text: bytes
) -> None:
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        writer.write(text)
        _, headers, _ = await response_of(reader)
        assert headers["connection"] == "close"
        assert await asyncio.wait_for(reader.read(), 30) == b""


async def test_a_timeout_reaches_the_plane_as_a_deadline(serving: Serving) -> None:
    plane = StubPlane(ECHO)
    async with serving(plane) as front, connection(front) as (reader, writer):
        start = time.monotonic()
        writer.write(post(CALL, head="x-request-timeout-ms: 5000\r\n"))
        assert (await response_of(reader))[0] == 200
        writer.write(post(CALL, head="x-request-timeout-ms: soon\r\n"))
        assert (await response_of(reader))[0] == 400
        end = time.monotonic()
    (request,) = plane.requests
    assert request.deadline is not None
    assert start + 5 <= request.deadline <= end + 5
