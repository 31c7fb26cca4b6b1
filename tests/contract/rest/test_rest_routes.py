"""Health, metadata and documentation over REST."""

from __future__ import annotations

import html
import json
import re
import shlex

from serving.request import Description
from serving.tensor import Signature
from tests.contract.rest.running import AXES, ECHO, PAIRS, TEXTS, client, serving
from tests.doubles.plane import StubPlane


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
