"""Inference calls over REST: answers, encodings, request ids."""

from __future__ import annotations

import gzip
import json
import re
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from tests.contract.rest.running import CALL, ECHO, MIB, WIDE, Serving, client, until
from tests.doubles.plane import StubPlane


async def test_predict_and_infer_answer_and_release(serving: Serving) -> None:
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


async def test_large_tensors_pass_in_json_both_ways(serving: Serving) -> None:
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
async def test_compressed_bodies_are_unpacked(
    serving: Serving, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    async with serving(StubPlane(ECHO), max_request_mb=1) as front, client(front) as http:
        encoded = {"content-encoding": coding}
        body = pack(json.dumps(CALL).encode())
        assert (await http.post("/predict", content=body, headers=encoded)).status_code == 200
        bomb = pack(bytes(2 * MIB))
        found = await http.post("/predict", content=bomb, headers=encoded)
        assert (found.status_code, found.json()["code"]) == (413, "unpacked_too_large")
        found = await http.post("/predict", content=b"{}", headers=encoded)
        assert (found.status_code, found.json()["code"]) == (400, "bad_compression")


async def test_a_request_id_is_repeated_and_reaches_the_plane(serving: Serving) -> None:
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
