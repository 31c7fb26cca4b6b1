"""What is imported when: a start waits for nothing that its first answer does not need."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests import models
from tests.server import ServerProcess, serving


def imported(program: str) -> set[str]:
    code = f"{program}\nimport json, sys; print(json.dumps(list(sys.modules)))"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(told.stdout.splitlines()[-1]))


def test_front_ends_come_after_the_workers_and_fastapi_after_them() -> None:
    server = imported("import serving.master.server")
    assert not server & {"uvicorn", "fastapi", "grpc", "pydantic"}
    fronts = imported("from serving.master.server import _front_ends; _front_ends()")
    assert {"uvicorn", "serving.frontends.rest.app"} <= fronts
    assert "serving.frontends.grpc.server" in fronts
    assert not fronts & {"fastapi", "starlette", "pydantic", "grpc"}


def test_settings_are_checked_without_grpc() -> None:
    assert "grpc" not in imported("import serving.cli.start, serving.frontends.tls")


def test_workers_do_without_the_event_loop() -> None:
    worker = imported("import serving.worker.main, serving.backends.onnxruntime")
    assert "onnxruntime" in worker
    assert not worker & {"asyncio", "ssl"}


@pytest.mark.parametrize("command", ["start", "list"])
def test_command_imports_no_other(command: str) -> None:
    found = imported(
        f"from serving.cli import main; main(['{command}', '--help'], standalone_mode=False)"
    )
    assert not found & {"serving.cli.bench", "serving.cli.predict", "http.client", "urllib.request"}


def mapped(server: ServerProcess) -> set[str]:
    """Return the packages whose libraries a live master has loaded; other modules cannot be seen.

    FastAPI has none of its own, but comes with pydantic's.
    """
    paths = [m.path for m in psutil.Process(server.pid).memory_maps()]
    return {
        name for name in ("grpc", "pydantic_core", "numpy") if any(f"/{name}/" in p for p in paths)
    }


@pytest.mark.parametrize(("engine", "loaded"), [("lane", set()), ("grpcio", {"grpc"})])
def test_grpcio_is_loaded_only_where_it_serves(
    tmp_path: Path, engine: str, loaded: set[str]
) -> None:
    models.mlp(tmp_path / "models" / "mlp" / "1" / "model.onnx")
    with (
        serving(tmp_path / "models", tmp_path / "scratch", "--grpc-engine", engine) as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        asked = health_pb2.HealthCheckRequest(service="mlp")
        told = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=20)
        assert told.status == health_pb2.HealthCheckResponse.SERVING
        assert mapped(server) == {"numpy"} | loaded


def test_fastapi_comes_with_the_first_call_that_is_for_it(tmp_path: Path) -> None:
    models.mlp(tmp_path / "models" / "mlp" / "1" / "model.onnx")
    (tmp_path / "models" / "mlp" / "servable.toml").write_text("max_batch_size = 4")
    with serving(tmp_path / "models", tmp_path / "scratch", "--grpc-engine", "lane") as server:
        address = f"http://127.0.0.1:{server.rest_port}"
        body = json.dumps({"instances": [[0.5] * 16]}).encode()
        urllib.request.urlopen(f"{address}/predict", body, timeout=20).close()
        assert mapped(server) == {"numpy"}
        with urllib.request.urlopen(f"{address}/v2/health/ready", timeout=20) as answer:
            assert answer.status == 200
        assert mapped(server) == {"numpy", "pydantic_core"}
