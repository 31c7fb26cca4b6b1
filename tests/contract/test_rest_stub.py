"""The REST front end on real sockets, over a data plane without processes."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import html
import json
import logging
import re
import shlex
import socket
import struct
import time
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvloop

from serving.config import ServerSettings
from serving.errors import ConfigError, ExecutionFailed, Overloaded, Unavailable
from serving.frontends.rest import guard
from serving.frontends.rest.server import RestFrontEnd
from serving.request import BatchAxes, Description, InferRequest
from serving.tensor import BYTES, FP32, Signature, Tensor, TensorSpec
from tests.doubles.plane import StubClaim, StubPlane

MIB = 1 << 20
AXES = BatchAxes(True, "asserted", (0,), (0,))
PAIRS = (TensorSpec("x", FP32, ("n", 2)),)
ECHO = Description("echo", 1, Signature(PAIRS, PAIRS), AXES, 32, "stub", versions=(1,))
LONG = (TensorSpec("x", FP32, ("n", "len")),)
WIDE = Description("wide", 1, Signature(LONG, LONG), AXES, 32, "stub", versions=(1,))
TEXT = (TensorSpec("s", BYTES, ("n",)),)
TEXTS = Description("texts", 2, Signature(TEXT, TEXT), AXES, 32, "stub", versions=(1, 2))
CALL = {"servable": "echo", "instances": [[1, 2]]}


class HeldPlane(StubPlane):
    """Answers when told to; commits are kept until then."""

    def __init__(self, *descriptions: Description) -> None:
        super().__init__(*descriptions)
        self.held: list[StubClaim] = []

    def commit(self, claim: StubClaim) -> None:
        self.held.append(claim)

    def answer_all(self) -> None:
        for claim in self.held:
            super().commit(claim)
        self.held.clear()


class RefusingPlane(StubPlane):
    """Refuses to claim from the n-th request on."""

    def __init__(self, after: int, error: Exception) -> None:
        super().__init__(ECHO, WIDE)
        self._after = after
        self._error = error

    def claim(self, request: InferRequest) -> StubClaim:
        if len(self.requests) >= self._after:
            raise self._error
        return super().claim(request)


@contextlib.asynccontextmanager
async def serving(plane: StubPlane, **settings: Any) -> AsyncIterator[RestFrontEnd]:
    front = RestFrontEnd(plane, ServerSettings(Path(), rest_port=0, **settings))
    await front.start()
    try:
        yield front
    finally:
        await front.stop()


@contextlib.asynccontextmanager
async def client(front: RestFrontEnd) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{front.port}", timeout=20) as found:
        yield found


@contextlib.asynccontextmanager
async def connection(
    front: RestFrontEnd,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        await asyncio.sleep(0.005)


async def response_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(head[0].split()[1]), headers, body


def post(document: Any, path: str = "/predict", head: str = "") -> bytes:
    body = json.dumps(document).encode()
    start = f"POST {path} HTTP/1.1\r\nhost: t\r\ncontent-length: {len(body)}\r\n{head}\r\n"
    return start.encode() + body


# Calls


async def test_predict_and_infer_answer_and_release() -> None:
    plane = StubPlane(ECHO)
    async with serving(plane) as front, client(front) as http:
        found = await http.post("/predict", json={"instances": [[1, 2], [3, 4]]})
        assert (found.status_code, found.json()["instances"]) == (
            200,
            [{"x": [1.0, 2.0]}, {"x": [3.0, 4.0]}],
        )
        head = json.dumps(
            {
                "inputs": [
                    {
                        "name": "x",
                        "shape": [1, 2],
                        "datatype": "FP32",
                        "parameters": {"binary_data_size": 8},
                    }
                ],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        data = struct.pack("<2f", 5, 6)
        lengths = {"Inference-Header-Content-Length": str(len(head))}
        found = await http.post(
            "/v2/models/echo/versions/1/infer", content=head + data, headers=lengths
        )
        length = int(found.headers["Inference-Header-Content-Length"])
        assert found.content[length:] == data
        assert json.loads(found.content[:length])["model_version"] == "1"
    assert plane.released == 2


async def test_large_tensors_pass_in_json_both_ways() -> None:
    plane = StubPlane(WIDE)
    row = np.random.default_rng(1).standard_normal(60_000).astype(np.float32)
    async with serving(plane) as front, client(front) as http:
        body = json.dumps({"instances": [row.astype(float).tolist()]}).encode()
        assert len(body) > MIB
        found = await http.post("/predict", content=body)
        assert found.status_code == 200
        back = np.array(found.json()["instances"][0]["x"], np.float32)
        bad = await http.post("/predict", content=body.replace(b"]]", b", true]]"))
        assert (bad.status_code, bad.json()["where"]) == (400, "instances[0][60000]")
    np.testing.assert_array_equal(back, row)
    await until(lambda: plane.released == 1)


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_bodies_are_unpacked(coding: str, pack: Callable[[bytes], bytes]) -> None:
    async with serving(StubPlane(ECHO), max_request_mb=1) as front, client(front) as http:
        encoded = {"content-encoding": coding}
        body = pack(json.dumps(CALL).encode())
        assert (await http.post("/predict", content=body, headers=encoded)).status_code == 200
        bomb = pack(bytes(2 * MIB))
        found = await http.post("/predict", content=bomb, headers=encoded)
        assert (found.status_code, found.json()["code"]) == (413, "unpacked_too_large")
        found = await http.post("/predict", content=b"{}", headers=encoded)
        assert (found.status_code, found.json()["code"]) == (400, "bad_compression")


async def test_a_request_id_is_repeated_and_reaches_the_plane() -> None:
    plane = StubPlane(ECHO)
    async with serving(plane) as front, client(front) as http:
        mine = {"x-request-id": "r-17"}
        found = await http.post("/predict", json=CALL, headers=mine)
        assert found.headers["x-request-id"] == plane.requests[0].id == "r-17"
        found = await http.post("/predict", json={}, headers=mine)
        assert found.headers["x-request-id"] == found.json()["request_id"] == "r-17"
        assert (await http.get("/v2", headers=mine)).headers["x-request-id"] == "r-17"
        found = await http.post("/predict", json={})
        assert "x-request-id" not in found.headers
        assert re.fullmatch("[0-9a-f]{16}", found.json()["request_id"])


# Failures


async def test_a_failing_sibling_refuses_the_call_and_the_others_are_released() -> None:
    def model(request: InferRequest) -> tuple[Tensor, ...]:
        if request.inputs[0].shape[1] == 2:
            raise ExecutionFailed("the model refused")
        return request.inputs

    plane = StubPlane(WIDE, model=model)
    async with serving(plane) as front, client(front) as http:
        found = await http.post("/predict", json={"instances": [[1], [1, 2], [1, 2, 3]]})
    assert (found.status_code, found.json()["detail"]) == (400, "the model refused")
    assert plane.released == 2


async def test_one_failure_abandons_the_siblings_that_still_run() -> None:
    plane = HeldPlane(WIDE)
    async with serving(plane) as front, client(front) as http:
        call = asyncio.create_task(http.post("/predict", json={"instances": [[1], [1, 2]]}))
        await until(lambda: len(plane.held) == 2)
        plane.held[1].answer.set_exception(Unavailable("the worker was lost"))
        found = await call
    assert (found.status_code, found.headers["retry-after"]) == (503, "1")
    assert (plane.abandoned, plane.released) == (1, 0)


async def test_a_refused_claim_abandons_the_earlier_ones() -> None:
    plane = RefusingPlane(2, Overloaded("the queue is full", retry_after_s=2.5))
    async with serving(plane) as front, client(front) as http:
        call = {"servable": "wide", "instances": [[1], [1, 2], [1, 2, 3]]}
        found = await http.post("/predict", json=call)
    assert (found.status_code, found.headers["retry-after"]) == (429, "3")
    assert (plane.abandoned, plane.released) == (2, 0)


async def test_a_fault_of_the_server_is_logged_and_tells_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plane = RefusingPlane(0, ZeroDivisionError("secret /path"))
    with caplog.at_level(logging.ERROR, "serving.rest"):
        async with serving(plane) as front, client(front) as http:
            found = await http.post("/predict", json=CALL)
    assert (found.status_code, found.json()["code"]) == (500, "internal")
    assert "secret" not in found.text
    assert found.json()["request_id"] in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_an_answer_that_cannot_be_written_is_released() -> None:
    plane = StubPlane(TEXTS, model=lambda r: (Tensor("s", BYTES, (1,), None, [b"\xff"]),))
    call = {"inputs": [{"name": "s", "shape": [1], "datatype": "BYTES", "data": ["x"]}]}
    async with serving(plane) as front, client(front) as http:
        found = await http.post("/v2/models/texts/infer", json=call)
    assert found.status_code == 400
    assert "binary_data" in found.json()["error"]
    assert plane.released == 1


async def test_a_client_that_goes_away_abandons_its_request() -> None:
    plane = HeldPlane(ECHO)
    async with serving(plane) as front:
        async with connection(front) as (_, writer):
            writer.write(post(CALL))
            await until(lambda: bool(plane.held))
        await until(lambda: plane.abandoned == 1)


async def test_a_client_that_goes_away_while_sending_claims_nothing() -> None:
    plane = StubPlane(ECHO)
    async with serving(plane) as front:
        async with connection(front) as (_, writer):
            writer.write(b"POST /predict HTTP/1.1\r\nhost: t\r\ncontent-length: 99\r\n\r\n{")
            await writer.drain()
            await until(lambda: bool(front._state.tasks))
        await until(lambda: not front._state.tasks)
    assert plane.requests == []


BAD = [
    b"",
    b"\xff\xfe",
    b"null",
    b"[" * 5000,
    b'{"instances": ' + b"[" * 500 + b"]" * 500 + b"}",
    b'{"instances": [[1, 2], [1]]}',
    b'{"instances": [[1, NaN]]}',
    b'{"instances": [[1, 1e40]]}',
    b'{"instances": [{"b64": "====", "shape": [1e99]}]}',
    b'{"inputs": [{"name": "x", "shape": [-1, 2], "datatype": "FP32", "data": []}]}',
    b'{"inputs": [{"name": "x", "shape": [99999999999999999999], "datatype": "FP32"}]}',
    b'{"inputs": [{"name": "\\ud800"}]}',
    b'{"servable": "\\u0000", "instances": [1]}',
    b'{"servable": "../../etc", "instances": [1]}',
]


@pytest.mark.parametrize("path", ["/predict", "/v2/models/echo/infer"])
async def test_bad_bodies_are_the_callers_mistake_in_words(path: str) -> None:
    async with serving(StubPlane(ECHO)) as front, client(front) as http:
        for body in BAD:
            found = await http.post(path, content=body)
            assert 400 <= found.status_code < 500, body
            told = found.json()
            assert len(told["error" if path.startswith("/v2") else "detail"]) > 10
            assert "Traceback" not in found.text


# Limits


async def test_a_length_over_the_limit_is_refused_before_the_body() -> None:
    limited = serving(StubPlane(ECHO), max_request_mb=1)
    async with limited as front, connection(front) as (reader, writer):
        start = time.monotonic()
        writer.write(
            b"POST /predict HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\n"
            b"content-length: 1048577\r\n\r\n"
        )
        status, headers, body = await response_of(reader)
        assert time.monotonic() - start < 1.5
        assert (status, headers["connection"]) == (413, "close")
        assert json.loads(body)["expected"] == "at most 1048576 bytes"


async def test_a_client_that_keeps_writing_still_gets_the_refusal() -> None:
    async with serving(StubPlane(ECHO), max_request_mb=1) as front, client(front) as http:
        found = await http.post("/v2/models/echo/infer", content=bytes(8 * MIB))
        assert found.status_code == 413
        assert "1048576 bytes" in found.json()["error"]


async def test_chunks_are_counted_while_they_arrive() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(64 * 1024)

    async with serving(StubPlane(ECHO), max_request_mb=1) as front, client(front) as http:
        found = await http.post("/predict", content=pieces())
        assert (found.status_code, found.json()["code"]) == (413, "request_too_large")


async def test_many_tiny_chunks_make_one_body() -> None:
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


async def test_too_many_large_bodies_at_once_are_refused_and_their_memory_comes_back() -> None:
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


async def test_a_head_that_does_not_end_is_refused() -> None:
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        writer.write(b"GET /v2 HTTP/1.1\r\nhost: t\r\n")
        for i in range(17):
            writer.write(b"h%d: %s\r\n" % (i, b"v" * 4096))
        assert b"431" in await asyncio.wait_for(reader.readline(), 10)


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
    sent: bytes, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, limit, 0.05)
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        await until(lambda: not front._state.connections)


async def test_a_client_that_waits_for_its_answer_is_not_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "HEAD_TIMEOUT_S", 0.0)
    monkeypatch.setattr(guard, "BODY_TIMEOUT_S", 0.0)
    plane = HeldPlane(ECHO)
    async with serving(plane) as front, connection(front) as (reader, writer):
        writer.write(post(CALL))
        await until(lambda: bool(plane.held))
        front._tick()
        plane.answer_all()
        assert (await response_of(reader))[0] == 200
        front._tick()
        writer.write(post(CALL))
        await until(lambda: bool(plane.held))
        plane.answer_all()
        assert (await response_of(reader))[0] == 200


# HTTP


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        writer.write(b"".join(post({**CALL, "id": f"{i}"}) for i in range(5)))
        for i in range(5):
            status, _, body = await response_of(reader)
            assert (status, json.loads(body)["id"]) == (200, f"{i}")


@pytest.mark.parametrize(
    "line",
    [
        b"BREW /predict HTTP/1.1",
        b"GET /predict HTTP/9.9",
        b"CONNECT a:1 HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"\0\0\0\0",
        b"GET predict HTTP/1.1",
    ],
)
async def test_what_is_not_http_gets_400_and_the_server_lives(line: bytes) -> None:
    async with serving(StubPlane(ECHO)) as front:
        async with connection(front) as (reader, writer):
            writer.write(line + b"\r\nhost: t\r\n\r\n")
            first = await asyncio.wait_for(reader.readline(), 10)
            assert first.startswith(b"HTTP/1.1 4")
        async with client(front) as http:
            assert (await http.get("/v2/health/live")).status_code == 200


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
async def test_an_upgrade_is_not_taken(upgrade: str) -> None:
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        head = f"GET /v2 HTTP/1.1\r\nhost: t\r\nconnection: upgrade\r\nupgrade: {upgrade}\r\n\r\n"
        writer.write(head.encode())
        assert (await response_of(reader))[0] == 200


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "a%2Fb", "%00", "%ff", "a" * 300, "", "%20%0a", "x%5Cy"]
)
async def test_names_that_cannot_be_are_not_found(name: str) -> None:
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        for method, rest in (("POST", "/infer"), ("GET", "/ready"), ("GET", "/versions/1")):
            writer.write(
                f"{method} /v2/models/{name}{rest} HTTP/1.1\r\nhost: t\r\n"
                "content-length: 0\r\n\r\n".encode()
            )
            status, _, body = await response_of(reader)
            assert status == 404
            assert json.loads(body).keys() == {"error"}


async def test_names_are_decoded_from_the_url() -> None:
    served = Description("modèle 1", 1, Signature(PAIRS, PAIRS), AXES, 32, "stub", versions=(1,))
    call = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
    async with serving(StubPlane(served)) as front, client(front) as http:
        found = await http.post("/v2/models/mod%C3%A8le%201/infer", json=call)
        assert found.json()["model_name"] == "modèle 1"
        assert (await http.get("/v2/models/mod%C3%A8le%201")).status_code == 200


async def test_unknown_routes_and_methods_have_the_form_of_their_side() -> None:
    async with serving(StubPlane(ECHO)) as front, client(front) as http:
        for path, member in (("/nowhere", "detail"), ("/v2/nowhere", "error")):
            found = await http.get(path)
            assert (found.status_code, member in found.json()) == (404, True)
        for path, allowed, member in (
            ("/predict", "POST", "detail"),
            ("/v2/models/echo/infer", "POST", "error"),
        ):
            found = await http.get(path)
            assert (found.status_code, found.headers["allow"]) == (405, allowed)
            assert member in found.json()
        found = await http.post("/v2/health/live")
        assert (found.status_code, "error" in found.json()) == (405, True)
        assert found.headers["allow"] == "GET"


# Health, metadata, documentation


async def test_health_follows_the_plane() -> None:
    plane = StubPlane(ECHO)
    async with serving(plane) as front, client(front) as http:
        assert (await http.get("/v2/health/live")).json() == {"live": True}
        assert (await http.get("/v2/health/ready")).json()["ready"] is True
        assert (await http.head("/v2/health/ready")).status_code == 200
        assert (await http.get("/v2/models/echo/ready")).json() == {"name": "echo", "ready": True}
        assert (await http.get("/v2/models/echo/versions/7/ready")).status_code == 404
        assert (await http.get("/v2/models/echo/versions/x/ready")).status_code == 404
        plane.is_ready = False
        found = await http.get("/v2/health/ready")
        assert (found.status_code, found.json()["ready"]) == (503, False)


async def test_metadata_describes_server_and_servables() -> None:
    async with serving(StubPlane(TEXTS)) as front, client(front) as http:
        assert {"name", "version", "extensions"} <= (await http.get("/v2")).json().keys()
        found = (await http.get("/v2/models/texts/versions/2")).json()
        assert found["versions"] == ["1", "2"]
        assert found["inputs"] == [{"name": "s", "datatype": "BYTES", "shape": [-1]}]


async def test_openapi_describes_the_inference_routes_without_loose_ends() -> None:
    async with serving(StubPlane(ECHO)) as front, client(front) as http:
        schema = (await http.get("/openapi.json")).json()
        assert (await http.get("/docs")).status_code == 200
    for path in (
        "/predict",
        "/v2/models/{name}/infer",
        "/v2/models/{name}/versions/{version}/infer",
    ):
        operation = schema["paths"][path]["post"]
        assert "application/json" in operation["requestBody"]["content"]
        assert {"200", "400", "404", "429", "503"} <= operation["responses"].keys()
    for reference in re.findall(r"#/components/schemas/(\w+)", json.dumps(schema)):
        assert reference in schema["components"]["schemas"]


async def test_the_pages_example_works_when_pasted() -> None:
    plane = StubPlane(ECHO, TEXTS)
    async with serving(plane) as front, client(front) as http:
        page = (await http.get("/")).text
        commands = [html.unescape(c) for c in re.findall("<pre><code>(.*?)</code>", page, re.S)]
        assert len(commands) == 2
        for command in commands:
            words = shlex.split(command.replace("\\\n", " "))
            assert words[1] == f"http://127.0.0.1:{front.port}/predict"
            found = await http.post("/predict", content=words[words.index("-d") + 1])
            assert found.status_code == 200
    assert "http" not in re.sub("<pre>.*?</pre>", "", page, flags=re.S)


async def test_the_page_shows_names_as_text() -> None:
    evil = Description("<b>", 1, Signature(PAIRS, PAIRS), AXES, 1, "<i>", versions=(1,))
    async with serving(StubPlane(evil)) as front, client(front) as http:
        page = (await http.get("/")).text
    assert "<b>" not in page
    assert "<i>" not in page
    assert "&lt;b&gt;" in page


# Start, drain, stop


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


async def test_drain_finishes_what_was_accepted_and_takes_nothing_more() -> None:
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
        assert await asyncio.wait_for(idle.read(), 5) == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", front.port)
        assert not drained.done()
        plane.answer_all()
        status, headers, _ = await response_of(reader)
        assert (status, headers["connection"]) == (200, "close")
        await asyncio.wait_for(drained, 5)
    assert plane.released == 1


async def test_drain_ends_at_its_deadline_and_stop_abandons_the_rest() -> None:
    plane = HeldPlane(ECHO)
    async with serving(plane) as front, connection(front) as (reader, writer):
        writer.write(post(CALL))
        await until(lambda: bool(plane.held))
        start = time.monotonic()
        await front.drain(0.1)
        assert 0.1 <= time.monotonic() - start < 5
        assert plane.abandoned == 0
        await front.stop()
        assert plane.abandoned == 1
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    assert plane.released == 0


def test_calls_disconnects_and_drain_work_on_the_servers_own_event_loop() -> None:
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
