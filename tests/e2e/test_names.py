"""Servables named as people name folders: every wire finds them, encoded or not."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from serving.client import Client
from serving.frontends.grpc.stubs import inference_v2_pb2 as v2
from tests import models
from tests.server import ServerProcess, serving

NAMES = ("model (1)", "yolo+seg", "resnet@v2", "café", "a.b-c_d", "été 2 (copie)+@")
ROW = [0.5] * 16


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("named")
    for name in NAMES:
        models.mlp(folder / "models" / name / "1" / "model.onnx")
    with serving(folder / "models", folder / "run", "--model-control", "explicit",
                 "--load-servables", "*") as running:  # fmt: skip
        yield running


def ask(server: ServerProcess, path: str, body: object = None) -> dict[str, object]:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(server.base + path, data, timeout=30) as answer:
        return json.loads(answer.read())  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("safe", ["", "+@()"], ids=["encoded", "as it is"])
def test_rest_finds_a_servable_by_its_name(server: ServerProcess, name: str, safe: str) -> None:
    quoted = urllib.parse.quote(name, safe=safe)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 16], "data": ROW}
    for _ in range(3):  # the ways of heads and bodies that are known by now
        told = ask(server, "/predict", {"servable": name, "instances": [{"x": ROW}]})
        assert told["servable"] == name
        told = ask(server, f"/v2/models/{quoted}/infer", {"inputs": [tensor]})
        assert told["model_name"] == name
        assert ask(server, f"/v1/models/{quoted}:predict", {"instances": [{"x": ROW}]})
        told = ask(server, f"/model/{quoted}/version/1:predict", {"instances": [{"x": ROW}]})
        assert "instances" in told
    assert ask(server, f"/v2/models/{quoted}")["name"] == name
    assert ask(server, f"/v2/models/{quoted}/stats")["model_stats"]
    assert ask(server, f"/v1/models/{quoted}")["model_version_status"]


@pytest.mark.parametrize("name", NAMES)
def test_grpc_and_commands_find_a_servable_by_its_name(server: ServerProcess, name: str) -> None:
    x = np.float32([ROW])
    with Client(server.grpc) as client:
        expected = client.predict(name, {"x": x})
        assert expected.servable == name
    request = v2.ModelInferRequest(model_name=name, raw_input_contents=[x.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 16])
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for _ in range(3):
            answer = infer(request.SerializeToString(), timeout=30)
            assert v2.ModelInferResponse.FromString(answer).model_name == name
    for words in (
        ("unload", name, "--url", server.base),
        ("load", name, "--url", server.base),
        ("predict", name, "-i", f"x={json.dumps([ROW])}", "--url", server.grpc),
    ):
        run = subprocess.run(
            [sys.executable, "-m", "serving", *words],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert run.returncode == 0, (words, run.stderr)


def test_page_and_metrics_have_every_name(server: ServerProcess) -> None:
    for path in ("/", "/metrics"):
        asked = urllib.request.Request(server.base + path, headers={"Accept": "text/html"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            text = answer.read().decode()
        for name in NAMES:
            assert name in text, (path, name)
