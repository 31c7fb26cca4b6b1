"""Bodies that are read straight into one buffer: right, in order, and given up in every way."""

from __future__ import annotations

import asyncio
import contextlib
import json

import numpy as np
import pytest

from serving.frontends.rest import guard, large_body
from serving.tensor import Array
from tests.contract.rest.running import (
    ECHO,
    GET,
    HeldPlane,
    Serving,
    binary,
    client,
    connection,
    post,
    response_of,
    until,
)
from tests.doubles.plane import StubPlane

ROWS = 200_000
"""Of two floats: 1.6 MB, several reads of the loop."""


def tensor() -> Array:
    return np.random.default_rng(3).standard_normal((ROWS, 2)).astype(np.float32)


def large(rows: Array, head: bytes = b"") -> bytes:
    given = {"name": "x", "shape": list(rows.shape), "datatype": "FP32"}
    told = json.dumps(
        {
            "inputs": [{**given, "parameters": {"binary_data_size": rows.nbytes}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    return (
        b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: t\r\n%binference-header-content-length: %d"
        b"\r\ncontent-length: %d\r\n\r\n"
        % (head, len(told), len(told) + rows.nbytes)
        + told
        + rows.tobytes()
    )


def rows_of(headers: dict[str, str], body: bytes) -> Array:
    split = int(headers["inference-header-content-length"])
    return np.frombuffer(body[split:], np.float32).reshape(-1, 2)


async def test_a_large_body_arrives_whole(serving: Serving) -> None:
    sent = tensor()
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        writer.write(large(sent))
        status, headers, body = await response_of(reader)
    assert status == 200
    assert np.array_equal(rows_of(headers, body), sent)


@pytest.mark.parametrize("cut", [1, 100, 70_000, 400_000, -1])
async def test_a_large_body_may_come_in_pieces(serving: Serving, cut: int) -> None:
    sent = tensor()
    data = large(sent)
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        for piece in (data[:cut], data[cut:]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        status, headers, body = await response_of(reader)
    assert status == 200
    assert np.array_equal(rows_of(headers, body), sent)


async def test_requests_behind_a_large_body_are_answered_in_their_order(serving: Serving) -> None:
    sent = tensor()
    data = large(sent) + binary() + large(sent + 1) + GET
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        writer.write(data)
        answers = [await response_of(reader) for _ in range(4)]
    assert [status for status, _, _ in answers] == [200] * 4
    assert np.array_equal(rows_of(*answers[0][1:]), sent)
    assert json.loads(answers[1][2])["model_name"] == "echo"
    assert np.array_equal(rows_of(*answers[2][1:]), sent + 1)
    assert json.loads(answers[3][2])["name"] == "serving"


async def test_json_may_be_large_too(serving: Serving) -> None:
    rows = tensor()[:40_000].round(2).tolist()
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        for _ in range(2):
            writer.write(post({"servable": "echo", "inputs": {"x": rows}}))
            status, _, body = await response_of(reader)
            assert status == 200
            assert np.allclose(json.loads(body)["outputs"]["x"], rows)


async def test_a_client_that_asks_first_is_told_to_go_on(serving: Serving) -> None:
    sent = tensor()
    head, body = large(sent, b"expect: 100-continue\r\n").split(b"\r\n\r\n", 1)
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        writer.write(head + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        status, headers, answer = await response_of(reader)
    assert status == 200
    assert np.array_equal(rows_of(headers, answer), sent)


async def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(serving: Serving) -> None:
    plane = StubPlane(ECHO)
    data = large(tensor())
    async with serving(plane) as front:
        before = front.app.budget.left_bytes
        for cut in (200_000, len(data) - 1):
            async with connection(front) as (_, writer):
                writer.write(data[:cut])
                await writer.drain()
                await until(lambda: front.app.budget.left_bytes < before)
                writer.transport.abort()
            await until(lambda: front.app.budget.left_bytes == before)
    assert plane.requests == []


async def test_a_client_that_leaves_while_it_runs_is_noticed(serving: Serving) -> None:
    plane = HeldPlane(ECHO)
    async with serving(plane) as front, connection(front) as (_, writer):
        writer.write(large(tensor()))
        await until(lambda: bool(plane.held))
        writer.transport.abort()
        await until(lambda: plane.abandoned == 1)


async def test_what_is_announced_and_not_sent_takes_little_of_the_memory(serving: Serving) -> None:
    head = (
        b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: t\r\ninference-header-content-length: 90\r\n"
        b"content-length: 90000000\r\n\r\n"
    )
    async with serving(StubPlane(ECHO)) as front, contextlib.AsyncExitStack() as stack:
        before = front.app.budget.left_bytes
        for _ in range(10):
            _, writer = await stack.enter_async_context(connection(front))
            writer.write(head)
        await until(lambda: front.app.budget.left_bytes < before)
        await asyncio.sleep(0.05)
        assert before - front.app.budget.left_bytes <= 10 * (4 << 20)


async def test_a_client_that_falls_silent_in_a_body_is_cut_off(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "BODY_TIMEOUT_S", 0.05)
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        before = front.app.budget.left_bytes
        writer.write(large(tensor())[:400_000])
        assert await asyncio.wait_for(reader.read(), 30) == b""
        await until(lambda: front.app.budget.left_bytes == before)
        await until(lambda: not front._connections())


async def test_a_stop_does_not_wait_for_a_body(serving: Serving) -> None:
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        before = front.app.budget.left_bytes
        writer.write(large(tensor())[:300_000])
        await until(lambda: front.app.budget.left_bytes < before)
        async with asyncio.timeout(30):
            await front.stop()
        assert await reader.read() == b""
    assert front.app.budget.left_bytes == before


async def test_two_clients_do_not_meet_in_a_body(serving: Serving) -> None:
    one, other = tensor(), tensor() * 2
    async with serving(StubPlane(ECHO)) as front, client(front) as http:

        async def ask(rows: Array) -> Array:
            head, _, body = large(rows).partition(b"\r\n\r\n")
            fields = dict(line.split(": ") for line in head.decode().split("\r\n")[1:])
            answer = await http.post("/v2/models/echo/infer", content=body, headers=fields)
            assert answer.status_code == 200
            return rows_of(dict(answer.headers), answer.content)

        found = await asyncio.gather(*[ask(one if n % 2 else other) for n in range(8)])
    for n, rows in enumerate(found):
        assert np.array_equal(rows, one if n % 2 else other)


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ([(b"content-length", b"200000")], 200_000),
        ([(b"content-length", b"%d" % (large_body.LEAST_BYTES - 1))], 0),
        ([(b"content-length", b"-200000")], 0),
        ([(b"content-length", b"200000"), (b"content-length", b"200000")], 0),
        ([(b"content-length", b"200000"), (b"transfer-encoding", b"chunked")], 0),
        ([(b"content-length", b"9" * 30)], 0),
        ([], 0),
    ],
)
def test_only_large_bodies_of_known_length_are_read_so(
    fields: list[tuple[bytes, bytes]], length: int
) -> None:
    assert large_body.length_of(fields) == length
