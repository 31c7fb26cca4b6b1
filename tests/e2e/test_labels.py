"""Versions by their labels: on every wire and command, and moved by an edit while clients ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner

from serving.cli import main
from serving.client import AsyncClient, Client
from serving.errors import NotFound
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from tests import models
from tests.e2e.test_hot_update import INTERVAL_S, put
from tests.server import ServerProcess, serving, until

LABELS = 'versions = "all"\n[labels]\nstable = 1\ncanary = 2\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels") / "models"
    for name in ("m", "moved", "missing"):
        for number in (1, 2):
            models.tagged(folder / name / str(number) / "model.onnx", number)
        (folder / name / "servable.toml").write_text(LABELS)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with serving(folder, folder.parent / "scratch", "--poll-interval-s", INTERVAL_S) as running:
        yield running


def ask(server: ServerProcess, name: str, version: str) -> tuple[int, Any]:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1], "data": [0.5]}]
    return server.post(f"/v2/models/{name}/versions/{version}/infer", {"inputs": inputs})


def infer(server: ServerProcess, message: pb.ModelInferRequest) -> pb.ModelInferResponse:
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        return call(message, timeout=20)


@pytest.mark.parametrize(("label", "number"), [("stable", 1), ("canary", 2)])
def test_label_names_a_version_on_every_wire(
    server: ServerProcess, label: str, number: int
) -> None:
    status, told = ask(server, "m", label)
    assert (status, told["model_version"]) == (200, str(number))
    body = {"servable": "m", "version": label, "instances": [{"x": 0.5}]}
    status, told = server.predict(body)
    assert (status, told["version"], told["instances"][0]["tag"]) == (200, number, number)
    x = np.array([0.5], np.float32)
    with Client(server.grpc) as client:
        assert client.predict("m", {"x": x}, version=label).version == number
        assert client.describe("m", label).labels == {"stable": 1, "canary": 2}
    message = pb.ModelInferRequest(model_name="m", model_version=label)
    message.inputs.add(name="x", datatype="FP32", shape=[1])
    message.raw_input_contents.append(x.tobytes())
    assert infer(server, message).model_version == str(number)


def test_label_is_shown_by_metadata_index_and_commands(server: ServerProcess, folder: Path) -> None:
    assert server.get("/v2/models/m")[1]["labels"] == {"canary": 2, "stable": 1}
    assert server.get("/v2/models/m/versions/stable/ready")[0] == 200
    assert server.get("/v2/models/m/versions/canary/stats")[1]["model_stats"][0]["version"] == "2"
    rows = server.post("/v2/repository/index", {})[1]
    assert {r["version"]: r.get("labels") for r in rows if r["name"] == "m"} == {
        "1": ["stable"], "2": ["canary"],
    }  # fmt: skip
    run = CliRunner().invoke
    assert "READY  (canary)" in run(main, ["status", "--url", server.base]).output
    listed = run(main, ["list", "--model-dir", str(folder), "--json"])
    shown = {r["version"]: r["labels"] for r in json.loads(listed.output)["versions"]
             if r["servable"] == "m"}  # fmt: skip
    assert shown == {1: ["stable"], 2: ["canary"]}
    given = ["predict", "m", "-i", "x=0.5", "--url", server.grpc, "--version", "canary"]
    told = run(main, [*given, "-o", "json"])
    assert json.loads(told.output)["version"] == 2


def test_label_that_is_not_known_is_refused_with_the_known_ones(server: ServerProcess) -> None:
    status, told = ask(server, "m", "stabel")
    assert status == 404
    assert "did you mean 'stable'" in told["error"]
    with Client(server.grpc) as client, pytest.raises(NotFound) as caught:
        client.describe("m", "stabel")
    assert caught.value.code == "unknown_version"


def test_label_without_a_version_is_told_and_not_offered(
    server: ServerProcess, folder: Path
) -> None:
    file = folder / "missing" / "servable.toml"
    file.write_text("[labels]\nstable = 2\nnightly = 7\nold = 1\n")
    until(lambda: "old" in server.log() and "not wanted" in server.log(), 20, "the note")
    assert "label 'nightly' is for version 7, which is not there" in server.log()
    assert server.get("/v2/models/missing")[1]["labels"] == {"stable": 2}
    for label in ("nightly", "old"):
        status, told = ask(server, "missing", label)
        assert status in (404, 503)
        assert f"label {label!r} has no version" in told["error"]


async def test_label_moves_without_a_gap_and_loads_nothing_anew(
    server: ServerProcess, folder: Path
) -> None:
    home, file = folder / "moved", folder / "moved" / "servable.toml"
    seen: list[int] = []
    stop = asyncio.Event()

    async def client() -> None:
        async with AsyncClient(server.grpc, retries=0) as asking:
            x = np.array([0.5], np.float32)
            while not stop.is_set():
                told = await asking.predict("moved", {"x": x}, version="stable")
                assert told["tag"][0] == told.version
                seen.append(told.version)

    async def until_seen(version: int) -> None:
        async with asyncio.timeout(20):
            while seen[-1:] != [version]:
                await asyncio.sleep(0.01)

    asking = [asyncio.create_task(client()) for _ in range(4)]
    try:
        await until_seen(1)
        loads = server.log().count("loading servable=moved")
        file.write_text(LABELS.replace("stable = 1", "stable = 2"))
        await until_seen(2)
        assert server.log().count("loading servable=moved") == loads
        # The label is there before its version: what it stood for answers meanwhile.
        file.write_text("versions = { latest = 1 }\n[labels]\nstable = 3\n")
        await asyncio.sleep(0.3)
        assert seen[-1] == 2
        put(home, 3, lambda draft: models.tagged(draft, 3))
        await until_seen(3)
        assert server.log().count("loading servable=moved") == loads + 1
    finally:
        stop.set()
        await asyncio.gather(*asking)
    assert set(seen) == {1, 2, 3}
