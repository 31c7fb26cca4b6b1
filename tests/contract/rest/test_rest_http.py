"""HTTP itself: order, nonsense, upgrades, names, unknown routes."""

from __future__ import annotations

import asyncio
import json

import pytest

from serving.errors import Unavailable
from serving.request import Description
from serving.tensor import Signature
from tests.contract.rest.running import (
    AXES,
    CALL,
    ECHO,
    PAIRS,
    RefusingPlane,
    Serving,
    client,
    connection,
    post,
    response_of,
)
from tests.doubles.plane import StubPlane


async def test_pipelined_requests_are_answered_in_order(serving: Serving) -> None:
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
async def test_what_is_not_http_gets_400_and_the_server_lives(
    serving: Serving, line: bytes
) -> None:
    async with serving(StubPlane(ECHO)) as front:
        async with connection(front) as (reader, writer):
            writer.write(line + b"\r\nhost: t\r\n\r\n")
            first = await asyncio.wait_for(reader.readline(), 30)
            assert first.startswith(b"HTTP/1.1 4")
        async with client(front) as http:
            assert (await http.get("/v2/health/live")).status_code == 200


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
async def test_an_upgrade_is_not_taken(serving: Serving, upgrade: str) -> None:
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        head = f"GET /v2 HTTP/1.1\r\nhost: t\r\nconnection: upgrade\r\nupgrade: {upgrade}\r\n\r\n"
        writer.write(head.encode())
        assert (await response_of(reader))[0] == 200


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "a%2Fb", "%00", "%ff", "a" * 300, "", "%20%0a", "x%5Cy"]
)
async def test_names_that_cannot_be_are_not_found(serving: Serving, name: str) -> None:
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        for method, rest in (("POST", "/infer"), ("GET", "/ready"), ("GET", "/versions/1")):
            writer.write(
                f"{method} /v2/models/{name}{rest} HTTP/1.1\r\nhost: t\r\n"
                "content-length: 0\r\n\r\n".encode()
            )
            status, _, body = await response_of(reader)
            assert status == 404
            assert json.loads(body).keys() == {"error"}


async def test_names_are_decoded_from_the_url(serving: Serving) -> None:
    served = Description("modèle 1", 1, Signature(PAIRS, PAIRS), AXES, 32, "stub", versions=(1,))
    call = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
    async with serving(StubPlane(served)) as front, client(front) as http:
        found = await http.post("/v2/models/mod%C3%A8le%201/infer", json=call)
        assert found.json()["model_name"] == "modèle 1"
        assert (await http.get("/v2/models/mod%C3%A8le%201")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "way"),
    [
        ("POST", "/v1/models/echo:classify", 400, "...:predict, which answers with all outputs"),
        ("POST", "/v1/models/e%20o/labels/canary:classify", 400, "features of tf.Example"),
        ("POST", "/v1/models/echo/versions/2:regress", 400, "features of tf.Example"),
        ("POST", "/v1/models/echo:explain", 400, "explainers are not offered"),
        ("GET", "/v2/trace/setting", 400, "trace extension is not offered"),
        ("POST", "/v2/models/echo/trace/setting", 400, "/metrics"),
        ("GET", "/v2/logging", 400, "--log-level"),
        ("POST", "/v2/models/echo/generate_stream", 400, "generate extension is not offered"),
    ],
)
async def test_protocols_that_are_not_offered_name_the_way(
    serving: Serving, method: str, path: str, status: int, way: str
) -> None:
    async with serving(StubPlane(ECHO)) as front, client(front) as http:
        found = await http.request(method, path, json={"instances": [[1, 2]]})
        assert found.status_code == status
        assert way in found.json()["error"]


async def test_unknown_routes_and_methods_have_the_form_of_their_side(serving: Serving) -> None:
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
        assert found.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v2/models/echo/", "/v2/models/echo"),
        ("/V2/models/echo", "/v2/models/echo"),
        ("/V2/models/echo/Infer", "/v2/models/echo/infer"),
        ("/v1/models/echo/predict", "/v1/models/echo:predict"),
        ("/predict/", "/predict"),
        ("/openapi.jsn", "/openapi.json"),
    ],
)
async def test_a_near_path_is_told_the_route(serving: Serving, path: str, meant: str) -> None:
    async with serving(StubPlane(ECHO)) as front, client(front) as http:
        found = await http.post(path, json={})
    assert found.status_code == 404
    assert f"did you mean {meant!r}?" in found.json().get("fix", found.json().get("error"))


async def test_what_will_not_pass_by_itself_has_no_time_to_try_again(serving: Serving) -> None:
    failed = RefusingPlane(0, Unavailable("version 1 is FAILED: broken", code="not_ready"))
    loading = RefusingPlane(0, Unavailable("LOADING", code="not_ready", retry_after_s=1.0))
    for plane, seconds in ((failed, None), (loading, "1")):
        async with serving(plane) as front, client(front) as http:
            found = await http.post("/predict", json=CALL)
        assert (found.status_code, found.headers.get("retry-after")) == (503, seconds)
