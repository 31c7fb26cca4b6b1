"""TensorFlow Serving's and KServe's first REST protocol over real sockets, by both ways."""

from __future__ import annotations

import dataclasses
import gzip
import json
from typing import Any

import numpy as np
import pytest

from serving.errors import ExecutionFailed, Overloaded
from serving.request import Description, InferRequest
from serving.tensor import Tensor
from tests.contract.rest.running import (
    ECHO,
    TEXTS,
    WIDE,
    RefusingPlane,
    Serving,
    client,
    connection,
    post,
    response_of,
)
from tests.doubles.plane import StubPlane

ROWS = {"instances": [[1, 2], [3, 4]]}
PREDICTED = {"predictions": [[1.0, 2.0], [3.0, 4.0]]}


class LabelledPlane(StubPlane):
    """Knows the label ``stable`` for version 1."""

    def describe(self, servable: Any, version: Any = None, method: Any = None) -> Description:
        return super().describe(servable, 1 if version == "stable" else version, method)


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("/v1/models/echo:predict", None),
        ("/v1/models/ec%68o:predict", None),
        ("/v1/models/echo%3Apredict", None),
        ("/v1/models/echo/versions/1%3apredict", 1),
        ("/v1/models/echo/labels/stable%3Apredict", "stable"),
        ("/v1/models/echo/versions/1:predict", 1),
        ("/v1/models/echo/versions/0:predict", None),
        ("/v1/models/echo/labels/stable:predict", "stable"),
    ],
)
async def test_predictions_are_asked_for_by_every_path(
    serving: Serving, path: str, version: int | str | None
) -> None:
    plane = LabelledPlane(ECHO)
    async with serving(plane) as front, client(front) as http:
        found = await http.post(path, json=ROWS, headers={"x-request-id": "a1"})
        whole = await http.post(path, json={"inputs": {"x": [[1, 2]]}})
    assert (found.status_code, found.json()) == (200, PREDICTED)
    assert found.headers["content-type"] == "application/json"
    assert found.headers["x-request-id"] == "a1"
    assert whole.json() == {"outputs": [[1.0, 2.0]]}
    assert [r.version for r in plane.requests] == [version, version]
    assert plane.requests[0].id == "a1"
    assert plane.released == 2


async def test_answers_stay_in_the_order_of_their_requests(serving: Serving) -> None:
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        ask = [post({"instances": [[n, n]]}, "/v1/models/echo:predict") for n in range(20)]
        writer.write(b"".join(ask))
        for n in range(20):
            status, _, body = await response_of(reader)
            assert (status, json.loads(body)) == (200, {"predictions": [[n, n]]})


async def test_large_bodies_come_and_go(serving: Serving) -> None:
    rows = np.arange(1 << 16, dtype=np.float32).reshape(2, -1)
    plane = StubPlane(WIDE)
    body = json.dumps({"instances": rows.tolist()}).encode()
    packed = {"content-encoding": "gzip"}
    async with serving(plane) as front, client(front) as http:
        for content, headers in ((body, {}), (gzip.compress(body), packed)):
            found = await http.post("/v1/models/wide:predict", content=content, headers=headers)
            assert np.array_equal(found.json()["predictions"], rows)
    assert plane.released == 2


async def test_a_signature_names_a_method(serving: Serving) -> None:
    methods = [dataclasses.replace(ECHO, method=name) for name in ("predict", "scale")]
    plane = StubPlane(*methods)
    async with serving(plane) as front, client(front) as http:
        for signature in ("scale", "serving_default"):
            body = {"signature_name": signature, **ROWS}
            assert (await http.post("/v1/models/echo:predict", json=body)).json() == PREDICTED
        found = await http.post("/v1/models/echo:predict", json={**ROWS, "signature_name": "z"})
    assert {r.method for r in plane.requests[:2]} == {"scale"}
    assert (found.status_code, "no signature 'z'" in found.json()["error"]) == (404, True)


WRONG = {
    "model": ("/v1/models/none:predict", ROWS, 404, "servable 'none'"),
    "version": ("/v1/models/echo/versions/9:predict", ROWS, 404, "version 9"),
    "no_version": ("/v1/models/echo/versions/-1:predict", ROWS, 404, "no version '-1'"),
    "label": ("/v1/models/echo/labels/new:predict", ROWS, 404, "new"),
    "no_label": ("/v1/models/echo/labels/3:predict", ROWS, 404, "no label '3'"),
    "name": ("/v1/models/%2F:predict", ROWS, 404, "'/'"),
    "neither": ("/v1/models/echo:predict", {}, 400, "'instances' and 'inputs'"),
    "empty": ("/v1/models/echo:predict", {"instances": []}, 400, "no instances"),
    "ragged": ("/v1/models/echo:predict", {"instances": [[1, 2], [3]]}, 400, "instances[1]"),
    "missing": ("/v1/models/echo:predict", {"inputs": {}}, 400, "input 'x' is missing"),
    "base64": (
        "/v1/models/texts:predict", {"instances": [{"b64": "?"}]}, 400, "base64"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
async def test_errors_are_one_text_with_their_status(serving: Serving, name: str) -> None:
    path, body, status, text = WRONG[name]
    plane = LabelledPlane(ECHO, TEXTS)
    async with serving(plane) as front, client(front) as http:
        found = await http.post(path, json=body)
    assert found.status_code == status
    assert list(found.json()) == ["error"]
    assert text in found.json()["error"]
    assert len(plane.errors) == 1


async def test_other_failures_have_the_same_form(serving: Serving) -> None:
    def fail(_: InferRequest) -> tuple[Tensor, ...]:
        raise ExecutionFailed("index 9 is out of range")

    full = RefusingPlane(0, Overloaded("the queue is full", retry_after_s=3))
    for plane, status in ((StubPlane(ECHO, model=fail), 400), (full, 429)):
        async with serving(plane) as front, client(front) as http:
            found = await http.post("/v1/models/echo:predict", json=ROWS)
        assert (found.status_code, list(found.json())) == (status, ["error"])
    assert found.headers["retry-after"] == "3"
    async with serving(StubPlane(ECHO), max_request_mb=1) as front, client(front) as http:
        body = {"instances": [[0.123456789, 0.123456789]] * 60_000}
        found = await http.post("/v1/models/echo:predict", json=body)
        assert (found.status_code, list(found.json())) == (413, ["error"])


async def test_predictions_are_posted(serving: Serving) -> None:
    async with serving(StubPlane(ECHO)) as front, client(front) as http:
        found = await http.get("/v1/models/echo:predict")
        assert (found.status_code, found.headers["allow"]) == (405, "POST")
        for method, path in (("POST", "/v1/models/echo"), ("DELETE", "/v1/models")):
            found = await http.request(method, path)
            assert (found.status_code, "error" in found.json()) == (405, True)


STATUS = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}


@pytest.mark.parametrize("place", ["", "/versions/1", "/labels/stable"])
async def test_status_has_the_keys_of_both_protocols(serving: Serving, place: str) -> None:
    async with serving(LabelledPlane(ECHO)) as front, client(front) as http:
        found = await http.get(f"/v1/models/echo{place}")
        head = await http.head(f"/v1/models/echo{place}")
    expected = {"model_version_status": [STATUS], "name": "echo", "ready": True}
    assert (found.status_code, found.json()) == (200, expected)
    assert (head.status_code, head.content) == (200, b"")


async def test_a_version_that_failed_says_why(serving: Serving) -> None:
    class Failed(StubPlane):
        async def servables(self) -> list[dict[str, Any]]:
            row = {"name": "net", "version": 2, "state": "FAILED", "reason": "the file is empty"}
            return [*await super().servables(), row]

    async with serving(Failed(ECHO)) as front, client(front) as http:
        found = (await http.get("/v1/models/net")).json()
        assert (await http.get("/v1/models")).json() == {"models": ["echo", "net"]}
    assert found["ready"] is False
    assert found["model_version_status"] == [
        {
            "version": "2",
            "state": "END",
            "status": {"error_code": "FAILED_PRECONDITION", "error_message": "the file is empty"},
        }
    ]


@pytest.mark.parametrize("place", ["", "/versions/1", "/labels/stable"])
async def test_metadata_is_the_signatures(serving: Serving, place: str) -> None:
    async with serving(LabelledPlane(ECHO)) as front, client(front) as http:
        found = await http.get(f"/v1/models/echo{place}/metadata")
    dims = [{"size": "-1", "name": "n"}, {"size": "2", "name": ""}]
    x = {"name": "x", "dtype": "DT_FLOAT", "tensor_shape": {"dim": dims, "unknown_rank": False}}
    method = "tensorflow/serving/predict"
    default = {"inputs": {"x": x}, "outputs": {"x": x}, "method_name": method}
    assert found.json() == {
        "model_spec": {"name": "echo", "signature_name": "", "version": "1"},
        "metadata": {"signature_def": {"signature_def": {"serving_default": default}}},
    }


@pytest.mark.parametrize(
    "path",
    ["none", "none/metadata", "echo/versions/9", "echo/versions/x%20y", "echo/labels/3", "%2F"],
)
async def test_what_is_not_there_is_not_found(serving: Serving, path: str) -> None:
    async with serving(StubPlane(ECHO)) as front, client(front) as http:
        found = await http.get(f"/v1/models/{path}")
    assert (found.status_code, list(found.json())) == (404, ["error"])
