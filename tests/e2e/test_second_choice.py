"""Whole servers on GPUs whose models run by ONNX Runtime's CUDA provider: said, never silent.

TensorRT, CUDA and ``onnxruntime-gpu`` are played by doubles, put in by the environment of the
backend alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import helper

from serving.cli import main
from tests.faults.client import Answer, Client
from tests.models.graph import build, save, value
from tests.server import ServerProcess, serving, until

DOUBLES = Path(__file__).parents[1] / "doubles"
WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3) / 8
NO_TENSORRT = "raise ModuleNotFoundError(\"No module named 'tensorrt'\")\n"


def odd(path: Path) -> None:
    """Write ``y = max(2 * x @ WEIGHT, 0)`` with an operator that no ``ai.onnx`` opset has."""
    nodes = [
        helper.make_node("FusedMatMul", ["x", "w"], ["p"], domain="com.microsoft", alpha=2.0),
        helper.make_node("Relu", ["p"], ["y"]),
    ]
    ends = [value("x", "FP32", ["n", 4])], [value("y", "FP32", ["n", 3])]
    model = build(nodes, *ends, {"w": WEIGHT})
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    save(model, path)


def plain(path: Path) -> None:
    """Write the same function with operators that every engine has."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Relu", ["p"], ["y"]),
    ]
    ends = [value("x", "FP32", ["n", 4])], [value("y", "FP32", ["n", 3])]
    save(build(nodes, *ends, {"w": 2 * WEIGHT}), path)


def environment(tmp_path: Path, *, tensorrt: bool = True, **more: str) -> dict[str, str]:
    """Return what stands for a GPU's workers: two GPUs, both engines unless told otherwise."""
    folders = [DOUBLES / "onnxruntime_gpu", DOUBLES / "tensorrt", DOUBLES / "cuda"]
    if not tensorrt:
        (tmp_path / "without").mkdir(exist_ok=True)
        (tmp_path / "without" / "tensorrt.py").write_text(NO_TENSORRT)
        folders[1] = tmp_path / "without"
    return {
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "TRT_DOUBLE_DEVICES": "2",
        "ORT_DOUBLE_DEVICES": "2",
        **more,
    }


def settings_file(tmp_path: Path, variables: dict[str, str]) -> Path:
    lines = [f"{name} = {json.dumps(text)}" for name, text in variables.items()]
    file = tmp_path / "serving.toml"
    file.write_text("\n".join(["[backends.tensorrt.env]", *lines]) + "\n")
    return file


@contextlib.contextmanager
def server_on(
    tmp_path: Path, devices: str, variables: dict[str, str], toml: str = "", *, wait: bool = True
) -> Iterator[ServerProcess]:
    """Serve ``odd`` with these settings, and ``plain``."""
    root = tmp_path / "models"
    for name, write in (("odd", odd), ("plain", plain)):
        (root / name / "1").mkdir(parents=True)
        write(root / name / "1" / "model.onnx")
    (root / "odd" / "servable.toml").write_text(toml)
    told = ("--devices", devices, "--config", str(settings_file(tmp_path, variables)))
    with serving(root, tmp_path / "run", *told, wait=wait) as server:
        yield server


def index(server: ServerProcess) -> dict[str, dict[str, Any]]:
    _, rows = server.post("/v2/repository/index", {})
    return {row["name"]: row for row in rows}


def ask(server: ServerProcess, name: str, calls: int = 3) -> None:
    """Every answer must be right."""
    with Client(server.rest_port, name, timeout_s=60) as client:
        for turn in range(calls):
            x = np.array([turn, 1, -turn, 2], np.float32) / 4
            answer = client.send(x=x.tolist())
            assert isinstance(answer, Answer), answer
            assert answer.status == 200, answer
            wanted = np.maximum(2 * x @ WEIGHT, 0)
            np.testing.assert_allclose(answer.body["instances"][0]["y"], wanted, rtol=1e-5)


def sessions(trace: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in trace.read_text().splitlines()]


def test_model_that_tensorrt_refuses_runs_by_onnxruntime_and_is_said_to(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    variables = environment(tmp_path, ORT_DOUBLE_TRACE=str(trace))
    toml = '[options.onnxruntime]\ngpu_mem_limit_mb = 512\ncudnn_conv_algo_search = "default"\n'
    with server_on(tmp_path, "gpu:0,gpu:1", variables, toml) as server:
        rows = index(server)
        assert rows["odd"]["state"] == rows["plain"]["state"] == "READY"
        assert rows["odd"]["workers"] == ["gpu-0", "gpu-1"]
        said = rows["odd"]["reason"]
        assert said.startswith("on gpu by onnxruntime (CUDA): tensorrt cannot take it: ")
        assert "FusedMatMul" in said
        assert not rows["plain"]["reason"]
        ask(server, "odd")
        ask(server, "plain")
        assert said in server.log()
        _, page = server.get("/")
        assert "on gpu by onnxruntime (CUDA): tensorrt cannot take it" in page
        assert server.stop() == 0
    made = [told for told in sessions(trace) if "gpu_mem_limit" in told]
    assert {told["device_id"] for told in made} == {"0", "1"}
    assert {told["gpu_mem_limit"] for told in made} == {str(512 << 20)}
    assert {told["cudnn_conv_algo_search"] for told in made} == {"DEFAULT"}


def test_pin_of_tensorrt_allows_no_second_choice(tmp_path: Path) -> None:
    with server_on(
        tmp_path, "cpu,gpu:0", environment(tmp_path), 'backend = "tensorrt"\n'
    ) as server:
        row = index(server)["odd"]
        assert row["state"] == "UNAVAILABLE"
        assert "FusedMatMul" in row["reason"]
        assert "onnxruntime" not in row["reason"]


def test_pin_of_onnxruntime_with_instances_builds_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    toml = 'backend = "onnxruntime"\n[instances]\ngpu = [1]\n'
    variables = environment(tmp_path, ORT_DOUBLE_TRACE=str(trace))
    with server_on(tmp_path, "cpu,gpu", variables, toml) as server:
        row = index(server)["odd"]
        assert (row["state"], row["workers"], row["reason"]) == ("READY", ["gpu-1"], "")
        ask(server, "odd")
        assert "odd for gpu: " not in server.log()
    assert {told["device_id"] for told in sessions(trace)} == {"1"}


def test_environment_without_tensorrt_serves_by_onnxruntime_aloud(tmp_path: Path) -> None:
    variables = environment(tmp_path, tensorrt=False)
    with server_on(tmp_path, "gpu:0", variables) as server:
        assert "on gpu models run by onnxruntime, for tensorrt cannot be used: " in server.log()
        rows = index(server)
        for name in ("odd", "plain"):
            assert rows[name]["state"] == "READY"
            assert rows[name]["reason"].startswith("on gpu by onnxruntime (CUDA): tensorrt cannot")
            assert "No module named 'tensorrt'" in rows[name]["reason"]
            ask(server, name)
        _, page = server.get("/")
        assert "<td>gpu-0<td>gpu:0<td>onnxruntime" in page


def test_missing_library_of_cuda_is_named_and_no_model_slips_onto_the_cpu(tmp_path: Path) -> None:
    variables = environment(tmp_path, ORT_DOUBLE_MISSING="libcublasLt.so.13")
    with server_on(tmp_path, "cpu,gpu:0", variables) as server:
        row = index(server)["odd"]
        assert row["state"] == "READY"
        assert "workers" not in row  # the CPU's alone
        assert row["reason"].startswith("not on gpu: ")
        assert "FusedMatMul" in row["reason"]
        assert (
            "nor is onnxruntime (CUDA) of use: ONNX Runtime cannot use CUDA: it needs "
            in (row["reason"])
        )
        assert "libcublasLt.so.13, which cannot be found" in row["reason"]
        ask(server, "odd")


def test_server_without_any_engine_for_its_gpu_says_what_both_lack(tmp_path: Path) -> None:
    variables = environment(tmp_path, tensorrt=False, ORT_DOUBLE_MISSING="libcudnn.so.9")
    with server_on(tmp_path, "cpu,gpu:0", variables, wait=False) as server:
        assert server.process.wait(30) == 2
        log = server.log()
    assert "--devices names gpu:0, which cannot be used" in log
    assert "No module named 'tensorrt'" in log
    assert "it needs libcudnn.so.9, which cannot be found" in log


def test_gpu_that_fails_under_onnxruntime_loses_no_request(tmp_path: Path) -> None:
    variables = environment(
        tmp_path, tensorrt=False, ORT_DOUBLE_FAIL="700:25@1",
        ORT_DOUBLE_FAIL_ONCE=str(tmp_path / "struck"),
    )  # fmt: skip
    with server_on(tmp_path, "cpu,gpu:0,gpu:1", variables) as server:
        with ThreadPoolExecutor(6) as pool:

            def struck() -> bool:
                for asked in [pool.submit(ask, server, "odd", 20) for _ in range(6)]:
                    asked.result(60)
                return "its device gpu:1 was lost" in server.log()

            until(struck, 60, "the loss")
        assert "an illegal memory access was encountered" in server.log()
        assert "suspects are tried apart" not in server.log()
        _, metrics = server.get("/metrics")
        assert 'serving_errors_total{front_end="rest"' not in metrics
        until(lambda: len(index(server)["odd"]["workers"]) == 3, 30, "it to be back")
        ask(server, "odd")


@pytest.mark.parametrize(
    ("tensorrt", "lacks", "onnx", "plan"),
    [
        (True, "", "tensorrt, built first; else onnxruntime (CUDA)", "tensorrt"),
        (False, "", "onnxruntime (CUDA)", "(tensorrt)"),
        (True, "libcudnn.so.9", "tensorrt, built first", "tensorrt"),
        (False, "libcudnn.so.9", "(tensorrt, built first)", "(tensorrt)"),
    ],
)
def test_devices_command_shows_the_second_choice(
    tmp_path: Path, tensorrt: bool, lacks: str, onnx: str, plan: str
) -> None:
    variables = environment(tmp_path, tensorrt=tensorrt, ORT_DOUBLE_MISSING=lacks)
    told = ["devices", "--config", str(settings_file(tmp_path, variables))]
    shown = CliRunner().invoke(main, told)
    assert shown.exit_code == 0, shown.output
    assert re.search(rf"^ONNX +onnxruntime +{re.escape(onnx)}  ", shown.output, re.MULTILINE)
    assert re.search(rf"^TensorRT engine +- +{re.escape(plan)}  ", shown.output, re.MULTILINE)
    assert ("no second choice, onnxruntime: ONNX Runtime cannot use CUDA" in shown.output) is bool(
        lacks
    )
    assert ("No module named 'tensorrt'" in shown.output) is not tensorrt
    assert ("onnxruntime (CUDA) 1." in shown.output) is not bool(lacks)
