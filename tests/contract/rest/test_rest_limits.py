"""Limits of REST: sizes, memory, and clients that are silent."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest

from serving.frontends.rest import guard
from tests.contract.rest.running import (
    CALL,
    ECHO,
    MIB,
    WIDE,
    HeldPlane,
    Serving,
    client,
    connection,
    post,
    response_of,
    until,
)
from tests.doubles.plane import StubPlane


async def test_a_length_over_the_limit_is_refused_before_the_body(serving: Serving) -> None:
    limited = serving(StubPlane(ECHO), max_request_mb=1)
    async with limited as front, connection(front) as (reader, writer):
        start = time.monotonic()
        writer.write(
            b"POST /predict HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\n"
            b"content-length: 1048577\r\n\r\n"
        )
        status, headers, body = await response_of(reader)
        assert time.monotonic() - start < 10
        assert (status, headers["connection"]) == (413, "close")
        assert json.loads(body)["expected"] == "at most 1048576 bytes"


async def test_a_client_that_keeps_writing_still_gets_the_refusal(serving: Serving) -> None:
    async with serving(StubPlane(ECHO), max_request_mb=1) as front, client(front) as http:
        found = await http.post("/v2/models/echo/infer", content=bytes(8 * MIB))
        assert found.status_code == 413
        assert "1048576 bytes" in found.json()["error"]


async def test_chunks_are_counted_while_they_arrive(serving: Serving) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(64 * 1024)

    async with serving(StubPlane(ECHO), max_request_mb=1) as front, client(front) as http:
        found = await http.post("/predict", content=pieces())
        assert (found.status_code, found.json()["code"]) == (413, "request_too_large")


async def test_many_tiny_chunks_make_one_body(serving: Serving) -> None:
    plane = StubPlane(WIDE)
    numbers = list(range(20_000))
    body = json.dumps({"instances": [numbers]}).encode()
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(piece), piece)
        for piece in (body[i : i + 6] for i in range(0, len(body), 6))
    )
    async with serving(plane) as front, connection(front) as (reader, writer):
        writer.write(b"POST /predict HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(chunks + b"0\r\n\r\n")
        status, _, answer = await response_of(reader)
    assert status == 200
    assert json.loads(answer)["instances"][0]["x"] == numbers


async def test_too_many_large_bodies_at_once_are_refused_and_their_memory_comes_back(
    serving: Serving,
) -> None:
    async with serving(StubPlane(ECHO), max_request_mb=1, memory_mb=1) as front:
        budget = front.app.budget
        async with connection(front) as (_, first), connection(front) as (reader, second):
            head = b"POST /predict HTTP/1.1\r\nhost: t\r\ncontent-length: 900000\r\n\r\n"
            first.write(head + bytes(700_000))
            await until(lambda: budget.left_bytes < 400_000)
            second.write(head + bytes(500_000))
            status, headers, body = await response_of(reader)
            assert (status, headers["retry-after"]) == (429, "1")
            assert json.loads(body)["code"] == "body_memory_full"
        await until(lambda: budget.left_bytes == MIB)


async def test_a_head_that_does_not_end_is_refused(serving: Serving) -> None:
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        writer.write(b"GET /v2 HTTP/1.1\r\nhost: t\r\n")
        for i in range(17):
            writer.write(b"h%d: %s\r\n" % (i, b"v" * 4096))
        assert b"431" in await asyncio.wait_for(reader.readline(), 30)


@pytest.mark.parametrize(
    ("sent", "limit"),
    [
        (b"", "HEAD_TIMEOUT_S"),
        (b"POST /predict HTTP/1.1\r\nhost: t\r\n", "HEAD_TIMEOUT_S"),
        (
            b"POST /predict HTTP/1.1\r\nhost: t\r\ncontent-length: 9\r\n\r\n{",
            "BODY_TIMEOUT_S",
        ),
    ],
)
async def test_a_silent_client_is_cut_off(
    serving: Serving, sent: bytes, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, limit, 0.05)
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 30) == b""
        await until(lambda: not front._connections())


async def test_a_client_that_waits_for_its_answer_is_not_cut_off(
    serving: Serving,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "HEAD_TIMEOUT_S", 0.0)
    monkeypatch.setattr(guard, "BODY_TIMEOUT_S", 0.0)
    monkeypatch.setattr(guard, "KEEP_ALIVE_S", 0.2)
    plane = HeldPlane(ECHO)
    async with serving(plane) as front, connection(front) as (reader, writer):
        writer.write(post(CALL))
        await until(lambda: bool(plane.held))
        await asyncio.sleep(0.3)
        front._tick()
        plane.answer_all()
        assert (await response_of(reader))[0] == 200
        front._tick()  # idle since just now, however long the call took
        writer.write(post(CALL))
        await until(lambda: bool(plane.held))
        plane.answer_all()
        assert (await response_of(reader))[0] == 200
