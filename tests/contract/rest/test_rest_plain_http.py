"""HTTP/1.1 and nothing else: offers of other protocols are declined, and nonsense is named."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import subprocess

import pytest

from tests.contract.rest.running import (
    CALL,
    ECHO,
    GET,
    V2,
    HeldPlane,
    Serving,
    chunked,
    connection,
    post,
    response_of,
    until,
)
from tests.doubles.plane import StubPlane

H2C = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAAB\r\n"
WEBSOCKET = "upgrade: websocket\r\nconnection: keep-alive, upgrade\r\n"
ROWS = [[1, 2]]


def offering(request: bytes, offer: str = H2C) -> bytes:
    """The request with an offer to go on in another protocol."""
    line, rest = request.split(b"\r\n", 1)
    return line + b"\r\n" + offer.encode() + rest


REQUESTS = {
    "predict": post(CALL),
    "v2": post(V2, "/v2/models/echo/infer"),
    "chunked": chunked(CALL),
    "with an id": post(CALL, head="x-request-id: 7\r\n"),
}


@pytest.mark.parametrize("offer", [H2C, WEBSOCKET])
@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_request_that_offers_an_upgrade_is_answered_with_its_body_read(
    serving: Serving, request_: bytes, offer: str
) -> None:
    plane = StubPlane(ECHO)
    async with serving(plane) as front, connection(front) as (reader, writer):
        for number in range(1, 4):  # the connection goes on; a head that is known goes quicker
            writer.write(offering(request_, offer))
            status, headers, _ = await response_of(reader)
            assert status == 200
            assert "connection" not in headers
            assert len(plane.requests) == number
            array = plane.requests[-1].inputs[0].array
            assert array is not None
            assert array.reshape(1, 2).tolist() == ROWS


async def test_request_that_offers_an_upgrade_may_come_in_any_pieces(serving: Serving) -> None:
    request = offering(post(CALL))
    async with serving(StubPlane(ECHO)) as front:
        for cut in range(1, len(request)):
            async with connection(front) as (reader, writer):
                writer.write(request[:cut])
                await asyncio.sleep(0)
                await writer.drain()
                writer.write(request[cut:])
                assert (await response_of(reader))[0] == 200


async def test_body_behind_an_offer_is_never_taken_for_a_request(serving: Serving) -> None:
    plane = StubPlane(ECHO)
    hidden = GET.decode()
    request = (
        f"POST /predict HTTP/1.1\r\nhost: t\r\n{H2C}content-length: {len(hidden)}\r\n\r\n"
    ).encode()
    async with serving(plane) as front, connection(front) as (reader, writer):
        writer.write(request)
        await writer.drain()
        writer.write(hidden.encode() + offering(post(CALL)))
        status, _, body = await response_of(reader)
        assert (status, json.loads(body)["code"]) == (400, "bad_json")
        assert (await response_of(reader))[0] == 200
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 30) == b""


async def test_pipelined_offers_are_answered_in_order(serving: Serving) -> None:
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        writer.write(b"".join(offering(post({**CALL, "id": f"{i}"})) for i in range(5)))
        for i in range(5):
            status, _, body = await response_of(reader)
            assert (status, json.loads(body)["id"]) == (200, f"{i}")


async def test_an_offer_is_nothing_to_warn_of(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "uvicorn"):
        async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
            writer.write(offering(post(CALL)))
            await response_of(reader)
    assert not [record for record in caplog.records if "pgrade" in record.getMessage()]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_that_would_rather_speak_http2_is_answered(serving: Serving) -> None:
    async with serving(StubPlane(ECHO)) as front:
        url = f"http://127.0.0.1:{front.port}/predict"
        command = ["curl", "-sS", "--http2", "-d", json.dumps(CALL), url]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=30, check=True
        )
    assert json.loads(done.stdout)["instances"] == [{"x": [1, 2]}]


MALFORMED = {
    "two lengths": (
        b"POST /predict HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        "Duplicate Content-Length",
        "",
    ),
    "length and chunks": (
        b"POST /predict HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc",
        "Transfer-Encoding",
        "",
    ),
    "line feeds alone": (b"GET /predict HTTP/1.1\nhost: t\n\n", "CRLF", ""),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "method", "http://"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI", "--grpc-port"),
    "bad chunk": (
        b"POST /predict HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "chunk size", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "given", "fix"), MALFORMED.values(), ids=MALFORMED)
async def test_what_is_not_http_is_told_what_was_wrong(
    serving: Serving, sent: bytes, given: str, fix: str
) -> None:
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        writer.write(sent)
        status, headers, body = await response_of(reader)
        told = json.loads(body)
        assert (status, told["code"]) == (400, "malformed_http")
        assert headers["content-type"] == "application/problem+json"
        assert headers["connection"] == "close"
        assert given in told["given"]
        assert fix in told.get("fix", "")
        writer.write(post(CALL))  # nobody listens any more
        assert await asyncio.wait_for(reader.read(), 30) == b""


async def test_what_is_not_http_has_the_form_of_the_side_it_was_sent_to(serving: Serving) -> None:
    sent = b"POST /v2/models/echo/infer HTTP/1.1\r\ncontent-length: +74\r\n\r\n"
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        writer.write(sent)
        status, _, body = await response_of(reader)
    assert (status, json.loads(body).keys()) == (400, {"error"})


async def test_requests_before_nonsense_are_answered(serving: Serving) -> None:
    plane = HeldPlane(ECHO)
    async with serving(plane) as front, connection(front) as (reader, writer):
        writer.write(post({**CALL, "id": "1"}) + post({**CALL, "id": "2"}) + b"?!\r\n\r\n")
        for id in ("1", "2"):
            await until(lambda: bool(plane.held))
            plane.answer_all()
            status, headers, body = await response_of(reader)
            assert (status, json.loads(body)["id"]) == (200, id)
        assert headers.get("connection") == "close"
        assert await asyncio.wait_for(reader.read(), 30) == b""


async def test_connect_is_refused_and_what_follows_is_not_read(serving: Serving) -> None:
    plane = StubPlane(ECHO)
    async with serving(plane) as front, connection(front) as (reader, writer):
        writer.write(b"CONNECT a:1 HTTP/1.1\r\nhost: t\r\n\r\n" + post(CALL))
        assert 400 <= (await response_of(reader))[0] < 500
        assert await asyncio.wait_for(reader.read(), 30) == b""
    assert not plane.requests
