"""Health, metadata and documentation over REST."""

from __future__ import annotations

import html
import json
import re
import shlex

import pytest
from fastapi import FastAPI
from starlette.routing import Route

from serving.frontends.rest.routes import build_routes
from serving.request import Description
from serving.tensor import FP32, Signature, TensorSpec
from tests.contract.rest.running import AXES, ECHO, PAGE, PAIRS, TEXTS, client, serving
from tests.doubles.plane import StubPlane

ROW = (TensorSpec("x", FP32, ("n", 3)),)


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


def answered(app: FastAPI, method: str) -> set[str]:
    """Return the paths of the routes that take a method."""
    return {r.path for r in app.routes if isinstance(r, Route) and method in (r.methods or ())}


def test_head_is_answered_wherever_get_is() -> None:
    app = build_routes(StubPlane(ECHO))
    assert {"/", "/docs", "/errors", "/metrics", "/openapi.json", "/v2"} <= answered(app, "GET")
    assert answered(app, "HEAD") == answered(app, "GET")


async def test_head_has_the_head_of_get_and_no_body() -> None:
    async with serving(StubPlane(ECHO)) as front, client(front) as http:
        for path in ("/", "/docs", "/errors", "/openapi.json", "/v2/models/stats", "/v2", "/no"):
            whole, head = await http.get(path), await http.head(path)
            assert (head.status_code, head.content) == (whole.status_code, b""), path
            for name in ("content-type", "content-length"):
                assert head.headers[name] == whole.headers[name], path
        metrics = await http.head("/metrics")
        assert (metrics.status_code, metrics.content) == (200, b"")


FOREIGN = re.compile(
    r"<(?:script|link|iframe|img|object|embed)\b|@import|\burl\(|\son\w+\s*=|javascript:"
    r"|(?:src|href|action|srcset)\s*=\s*[\"']?\s*(?:[a-z]+:)?//",
    re.IGNORECASE,
)
"""What would load something, run a script, or lead away from the server."""


@pytest.mark.parametrize(
    "text",
    [
        "<script>1</script>",
        "<LINK rel=icon href=/a>",
        "<a href='https://example.org'>",
        "<a href=//example.org>",
        "<style>@import 'a'</style>",
        "<p style='background:url(a)'>",
        "<p onclick='a()'>",
    ],
)
def test_what_is_foreign_would_be_found(text: str) -> None:
    assert FOREIGN.search(text)


async def test_no_page_loads_or_runs_anything() -> None:
    app = build_routes(StubPlane(ECHO))
    pages = 0
    async with serving(StubPlane(ECHO, TEXTS)) as front, client(front) as http:
        for path in sorted({*answered(app, "GET"), "/redoc", "/docs/oauth2-redirect", "/no"}):
            found = await http.get(path.format(name="echo", version=1, label="a"), headers=PAGE)
            if found.headers["content-type"].startswith("text/html"):
                pages += 1
                assert not FOREIGN.search(found.text), path
    assert pages == 3  # /, /docs and /errors


async def test_docs_has_every_route_with_a_command_that_works() -> None:
    named = Description(
        "NAME", 1, Signature(ROW, ROW), AXES, 32, "stub", versions=(1,), details={"config": {}}
    )
    async with serving(StubPlane(named)) as front, client(front) as http:
        schema = (await http.get("/openapi.json")).json()
        page = (await http.get("/docs")).text
        sections = page.partition("<h2 id=schemas>")[0].split("<h3 ")[1:]
        routes = [(p, m.upper()) for p, methods in schema["paths"].items() for m in methods]
        assert len(sections) == len(routes) > 20
        for path, method in routes:
            (section,) = [s for s in sections if f">{method} {path}</h3>" in s]
            (command,) = re.findall("<pre><code>(.*?)</code>", section, re.S)
            words = shlex.split(html.unescape(command).replace("\\\n", " "))
            assert words[:1] == ["curl"]
            body = words[words.index("-d") + 1] if "-d" in words else None
            assert ("-d" in words or "-X" in words) == (method == "POST")
            if "labels" in path or "repository" in path:  # of which the double has none
                continue
            found = await http.request(method, words[1], content=body)
            assert found.status_code == 200, words
            assert b"error_msg" not in found.content


async def test_docs_links_lead_somewhere_on_the_page() -> None:
    async with serving(StubPlane(ECHO)) as front, client(front) as http:
        page = (await http.get("/docs")).text
    ids = re.findall(r"\bid='?([\w-]+)", page)
    assert len(ids) == len(set(ids))
    links = re.findall(r"href='#([^']+)'", page)
    assert "schema-predictrequest" in links
    assert set(links) <= set(ids)


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
        page = (await http.get("/", headers=PAGE)).text
        commands = [html.unescape(c) for c in re.findall("<pre><code>(.*?)</code>", page, re.S)]
        assert len(commands) == 2
        for command in commands:
            words = shlex.split(command.replace("\\\n", " "))
            assert words[1] == f"http://127.0.0.1:{front.port}/predict"
            found = await http.post("/predict", content=words[words.index("-d") + 1])
            assert found.status_code == 200
    assert "http" not in re.sub("<pre>.*?</pre>", "", page, flags=re.S)


async def test_programs_hear_at_the_page_s_place_whether_the_server_lives() -> None:
    plane = StubPlane(ECHO)
    async with serving(plane) as front, client(front) as http:
        found = await http.get("/", headers={"Accept": "*/*"})
        assert (found.status_code, found.headers["vary"]) == (200, "Accept")
        assert found.headers["content-type"] == "application/json"
        told = found.json()
        assert (told["status"], told["ready"]) == ("alive", True)
        assert [row["name"] for row in told["servables"]] == ["echo"]
        plane.is_ready = False
        assert (await http.get("/", headers={"Accept": "*/*"})).json()["ready"] is False
        assert (await http.get("/", headers=PAGE)).headers["vary"] == "Accept"


async def test_openapi_has_no_path_parameter_that_may_be_null() -> None:
    async with serving(StubPlane(ECHO)) as front, client(front) as http:
        paths = (await http.get("/openapi.json")).json()["paths"]
    found = [
        given["schema"]["type"]
        for path in paths.values()
        for operation in path.values()
        for given in operation.get("parameters", ())
        if given["in"] == "path"
    ]
    assert set(found) == {"string"}


async def test_the_page_shows_names_as_text() -> None:
    evil = Description("<b>", 1, Signature(PAIRS, PAIRS), AXES, 1, "<i>", versions=(1,))
    async with serving(StubPlane(evil)) as front, client(front) as http:
        page = (await http.get("/", headers=PAGE)).text
    assert "<b>" not in page
    assert "<i>" not in page
    assert "&lt;b&gt;" in page
