"""The scene of devices: what it refuses, which file it runs bare, and the shares that it tells."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import devices, engine
from benchmarks.devices import Measured, NoDevice, environment, loaded_file, require, table
from benchmarks.measure import Row
from benchmarks.workloads import WORKLOADS, Case
from tests import models

TOLD = {
    "kinds": [
        {"kind": "cpu", "usable": True, "problem": ""},
        {"kind": "gpu", "usable": False, "problem": "the driver finds no GPU"},
    ]
}


def case(folder: Path) -> Case:
    one = np.zeros((1, 16), np.float32)
    return Case(WORKLOADS[0], folder, folder / "model.onnx", "x", one, "y", one)


def test_kind_that_is_not_there_is_refused_with_the_reason() -> None:
    require(["cpu"], TOLD)
    with pytest.raises(NoDevice, match="no gpu can be measured here: the driver finds no GPU"):
        require(["cpu", "gpu"], TOLD)


def test_command_on_a_machine_without_the_device_ends_before_it_measures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devices, "_told", lambda _: TOLD)
    monkeypatch.setattr(devices, "require_generators", lambda: None)
    assert devices.main(["--devices", "cpu,gpu"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "the driver finds no GPU" in said.err


def test_file_that_runs_bare_is_the_one_that_the_server_has_loaded(tmp_path: Path) -> None:
    (tmp_path / "engines" / "ab").mkdir(parents=True)
    plan = tmp_path / "engines" / "ab" / "model.plan"
    plan.touch()
    assert loaded_file("tensorrt", case(tmp_path), tmp_path) == plan
    assert loaded_file("onnxruntime", case(tmp_path), tmp_path) == tmp_path / "model.onnx"


def test_bare_engine_of_a_gpu_lives_where_its_workers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mine")
    root = str(Path(devices.__file__).parents[1])
    backends = {
        "tensorrt": {
            "python": "/opt/trt/bin/python",
            "module": "tensorrt_rtx",
            "env": {"PYTHONPATH": "/opt/trt/lib", "LD_LIBRARY_PATH": "/opt/cuda"},
        }
    }
    python, env = environment(backends, "gpu")
    assert python == "/opt/trt/bin/python"
    assert env["PYTHONPATH"].split(os.pathsep) == [root, "/opt/trt/lib"]
    assert env["LD_LIBRARY_PATH"] == "/opt/cuda"
    assert env["SERVING_TENSORRT_MODULE"] == "tensorrt_rtx"
    python, env = environment(backends, "cpu")
    assert python == sys.executable
    assert env["PYTHONPATH"].split(os.pathsep) == [root, "/mine"]


def test_share_is_of_the_bare_engine_on_the_same_device() -> None:
    row = Row("v2-binary", 8, 1, 600.0, 12.5, 20.0, 100.0, 1000, 0, 0.0, (600.0,))
    limit = engine.Limit(800.0, 16, 1, {16: 800.0})
    last = table([Measured("resnet50", "gpu", "tensorrt", limit, (row,))]).splitlines()[-1]
    assert last == ("| resnet50 | gpu | tensorrt | 800.0 (16) | 8 | 600.0 | 0.75 | 12.5 | 20 | 0 |")


def test_bare_engine_answers_as_the_engine_loop_does(tmp_path: Path) -> None:
    model = models.identity(tmp_path / "m.onnx", "FP32", ("batch", 4))
    np.save(tmp_path / "row.npy", np.zeros((1, 4), np.float32))
    python, env = environment({}, "cpu")
    command = [python, "-m", "benchmarks.bare_engine", "onnxruntime", "cpu"]
    command += [str(model), str(tmp_path / "row.npy")]
    limit = engine.sweep(command, 1, 0.05, (1, 4), env)
    assert set(limit.rates) == {1, 4}
    assert all(rate > 100 for rate in limit.rates.values())
