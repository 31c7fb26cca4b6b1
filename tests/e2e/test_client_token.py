"""A server that asks its clients for a token: every door, every kind of call, both sides."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from serving.client import AsyncClient, Client
from serving.errors import ConfigError, ServingError
from serving.frontends.grpc.stubs import inference_v2_pb2 as v2
from tests import models
from tests.server import ServerProcess, serving

TOKEN, ADMIN = "t0ken-of-the-clients", "t0ken-of-the-administrator"
HELD = (("authorization", f"Bearer {TOKEN}"),)
ROW = [0.5] * 16
V2_JSON = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": ROW}]}
CALLS: dict[str, Any] = {
    "/predict": {"servable": "m", "instances": [{"x": ROW}]},
    "/v2/models/m/infer": V2_JSON,
    "/v1/models/m:predict": {"instances": [{"x": ROW}]},
    "/model/m/version/1:predict": {"instances": [{"x": ROW}]},
}
PATHS = ("/", "/docs", "/openapi.json", "/metrics", "/v2", "/v2/models/m", "/v2/nothing", "/none")
INFER = "/inference.GRPCInferenceService/"
MODEL_INFER = v2.ModelInferRequest(
    model_name="m",
    inputs=[v2.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 16])],
    raw_input_contents=[np.float32(ROW).tobytes()],
).SerializeToString()


@pytest.fixture(
    scope="module",
    params=[(), ("--grpc-engine", "grpcio"), ("--frontends", "2")],
    ids=["lane", "grpcio", "two front ends"],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("guarded")
    models.mlp(folder / "models" / "m" / "1" / "model.onnx")
    secrets = []
    for who, token in (("client", TOKEN), ("admin", ADMIN)):
        (folder / who).write_text(token + "\n")
        secrets += [f"--{who}-token-file", str(folder / who)]
    control = ("--model-control", "explicit", "--load-servables", "*")
    with serving(folder / "models", folder / "run", *control, *secrets, *request.param) as running:
        yield running
    log = running.log_file.read_text()
    assert TOKEN not in log
    assert ADMIN not in log


class Http:
    """One connection that is kept."""

    def __init__(self, server: ServerProcess) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)

    def ask(
        self, path: str, body: Any = None, authorization: str | None = f"Bearer {TOKEN}"
    ) -> tuple[int, bytes, dict[str, str]]:
        headers = {} if authorization is None else {"Authorization": authorization}
        data = None if body is None else json.dumps(body).encode()
        self.connection.request("GET" if body is None else "POST", path, data, headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read(), {k.lower(): v for k, v in answer.headers.items()}


@pytest.fixture
def caller(server: ServerProcess) -> Iterator[Http]:
    made = Http(server)
    yield made
    made.connection.close()


@pytest.mark.parametrize("path", CALLS)
def test_inference_over_rest_is_for_those_with_the_token(caller: Http, path: str) -> None:
    first = caller.ask(path, CALLS[path])
    assert first[0] == 200, first
    for _ in range(3):  # the ways of heads and bodies that are known by now
        assert caller.ask(path, CALLS[path])[:2] == first[:2]
        for wrong in (None, "Bearer other", f"Bearer {TOKEN[:-1]}x", f"Token {TOKEN}"):
            status, told, headers = caller.ask(path, CALLS[path], wrong)
            assert status == 401, told
            assert b"--client-token-file" in told
            assert headers["www-authenticate"].startswith("Bearer ")
    # Together with those that have it, as they come in one read.
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\n"
    data = json.dumps(CALLS[path]).encode()
    body = b"Content-Length: %d\r\n\r\n%b" % (len(data), data)
    good = f"{head}Authorization: Bearer {TOKEN}\r\n".encode() + body
    sock = caller.connection.sock
    sock.sendall(
        good + head.encode() + body + good.replace(b"Host: h", b"Host: h\r\nConnection: close")
    )
    heard = b""
    while piece := sock.recv(1 << 16):
        heard += piece
    assert re.findall(rb"HTTP/1.1 (\d+)", heard) == [b"200", b"401", b"200"]


def test_refusal_looks_as_its_wire_format_has_errors(caller: Http) -> None:
    told = {path: json.loads(caller.ask(path, CALLS[path], None)[1]) for path in CALLS}
    assert told["/predict"]["code"] == "unauthenticated"
    assert "--client-token-file" in told["/v2/models/m/infer"]["error"]
    assert "--client-token-file" in told["/v1/models/m:predict"]["error"]
    assert "--client-token-file" in told["/model/m/version/1:predict"]["error_msg"]


def test_everything_else_over_rest_is_too_and_health_is_for_all(
    server: ServerProcess, caller: Http
) -> None:
    for path in PATHS:
        assert caller.ask(path, None, None)[0] == 401, path
        assert caller.ask(path)[0] == (404 if "no" in path else 200), path
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert caller.ask(path, None, None)[0] == 200
    with grpc.insecure_channel(server.grpc) as channel:
        _ended(channel.unary_unary(INFER + "ServerMetadata"))
    counted = caller.ask("/metrics")[1]
    for door in ("rest", "grpc"):
        line = f'serving_errors_total{{front_end="{door}",reason="unauthenticated"}}'
        assert line.encode() in counted


def test_browser_may_send_the_token_as_a_password(caller: Http) -> None:
    basic = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    assert caller.ask("/", None, f"Basic {basic}")[0] == 200
    assert caller.ask("/predict", CALLS["/predict"], f"Basic {basic}")[0] == 200


def test_large_body_of_a_stranger_is_not_read(caller: Http) -> None:
    status, told, _ = caller.ask("/predict", {"servable": "m", "junk": "x" * (8 << 20)}, None)
    assert (status, json.loads(told)["code"]) == (401, "unauthenticated")


def test_loading_is_the_administrators_who_may_ask_as_well(caller: Http) -> None:
    load = "/v2/repository/models/m/load"
    assert caller.ask(load, {}, None)[0] == 401
    assert caller.ask(load, {})[0] == 401
    assert caller.ask(load, {}, f"Bearer {ADMIN}")[0] == 200
    assert caller.ask("/predict", CALLS["/predict"], f"Bearer {ADMIN}")[0] == 200


def _ended(call: Any, request: Any = b"", **more: Any) -> tuple[grpc.StatusCode, str]:
    """Return what a call comes to that must fail; of streams the first answer is waited for."""

    def ask() -> None:
        answer = call(request, timeout=30, **more)
        if hasattr(answer, "__next__"):
            next(answer)

    with pytest.raises(grpc.RpcError) as error:
        ask()
    return error.value.code(), error.value.details()


def test_grpc_is_for_those_with_the_token_and_health_for_all(server: ServerProcess) -> None:
    shut = grpc.StatusCode.UNAUTHENTICATED
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(INFER + "ModelInfer")
        stream = channel.stream_stream(INFER + "ModelStreamInfer")
        predict = channel.unary_unary("/ms_serving.MSService/Predict")
        tensorflow = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        none = channel.unary_unary("/no.Service/Method")
        own = channel.unary_unary("/serving.v1.Serving/List")
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
        for _ in range(3):
            assert infer(MODEL_INFER, metadata=HELD, timeout=30)
            for metadata in (
                (),
                (("authorization", "Bearer x"),),
                HELD + HELD,
                (("token", TOKEN),),
            ):
                code, text = _ended(infer, MODEL_INFER, metadata=metadata)
                assert code is shut
                assert "--client-token-file" in text
            for call in (predict, tensorflow, none, own):
                assert _ended(call)[0] is shut
            assert _ended(stream, iter([MODEL_INFER] * 3))[0] is shut
            assert _ended(reflection.ServerReflectionInfo, iter(asked))[0] is shut
        assert len(list(stream(iter([MODEL_INFER] * 3), metadata=HELD, timeout=30))) == 3
        health = health_pb2_grpc.HealthStub(channel)
        serves = health_pb2.HealthCheckResponse.SERVING
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=30).status == serves
        for method in ("ServerLive", "ServerReady"):
            assert channel.unary_unary(INFER + method)(b"", timeout=30)
        assert _ended(channel.unary_unary(INFER + "ModelReady"))[0] is shut


def test_client_shows_its_token(server: ServerProcess) -> None:
    x = np.float32([ROW])
    with Client(server.grpc, token=TOKEN) as client:
        expected = client.predict("m", {"x": x})
    with Client(server.grpc, retries=0) as client, pytest.raises(ServingError, match="token"):
        client.predict("m", {"x": x})

    async def ask() -> Any:
        async with AsyncClient(server.grpc, token=TOKEN) as client:
            return await client.predict("m", {"x": x})

    for name, value in asyncio.run(ask()).items():
        np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize("token", ["", "two words", "t\n", "tök"])
def test_client_refuses_what_is_no_token(token: str) -> None:
    with pytest.raises(ConfigError, match="token"):
        Client("localhost:1", token=token)


def test_commands_show_the_token_in_a_file(server: ServerProcess, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    x = json.dumps([ROW])
    rest = ("--url", server.base)
    commands = {
        "status": rest,
        "predict": ("m", "-i", f"x={x}", "--url", server.grpc),
        "bench": (
            "m",
            *rest,
            "--grpc-url",
            server.grpc,
            "--concurrency",
            "1",
            "--duration-s",
            "0.2",
        ),
    }
    for command, words in commands.items():
        line = [sys.executable, "-m", "serving", command, *words]
        for more, code in ((["--token-file", str(file)], 0), ([], 7)):
            run = subprocess.run(
                [*line, *more], capture_output=True, text=True, timeout=60, check=False
            )
            assert run.returncode == code, (command, run.stdout, run.stderr)
            assert TOKEN not in run.stdout + run.stderr
            if code:
                assert "--client-token-file" in run.stderr
    line = [sys.executable, "-m", "serving", "bench", *commands["bench"], "--protocol", "grpc"]
    run = subprocess.run([*line, "--token-file", str(file)], capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr
