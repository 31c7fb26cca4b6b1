"""The clients that TensorFlow Serving's and OpenVINO's users have, unchanged, get right answers.

``SERVING_TEST_TENSORFLOW`` names those that are tried: ``ovmsclient`` (some 100 MB installed), and
``tensorflow-serving-api``, which brings TensorFlow.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests import models
from tests.real.client_environment import PACKAGES, python_with, run_calls
from tests.server import serving

CALLS = Path(__file__).with_name("tensorflow_calls.py")
CHOSEN = os.environ.get("SERVING_TEST_TENSORFLOW", "").split()
MULTI = {
    "total": [2.5, 1.0],
    "doubled": [[8, 10], [-12, 14]],
    "positive": [[True, False, True], [False, False, True]],
}

pytestmark = pytest.mark.real


def told(package: str, home: Path, *options: str) -> Any:
    if package not in CHOSEN:
        pytest.skip(f"SERVING_TEST_TENSORFLOW does not ask for {package}")
    assert package in PACKAGES
    python = python_with(package)
    models.multi(home / "models" / "multi.onnx")
    models.string_lookup(home / "models" / "words.onnx")
    for number in (1, 2):
        models.tagged(home / "models" / "net" / str(number) / "model.onnx", number)
    (home / "models" / "net" / "servable.toml").write_text('versions = "all"\n')
    with serving(home / "models", home / "run", *options) as server:
        printed = run_calls(python, CALLS, package, server)
    return json.loads(printed)


@pytest.mark.parametrize("engine", ["grpcio", "lane"])
def test_openvino_s_client_gets_right_answers(tmp_path: Path, engine: str) -> None:
    found = told("ovmsclient", tmp_path, "--grpc-engine", engine)
    for side in (found, found["rest"]):
        assert side["multi"] == MULTI
        assert side["words"] == [2, -1]
        assert side["version"] == {"tag": [1], "sum": [1.5]}
        assert {v: status["state"] for v, status in side["status"].items()} == {
            "1": "AVAILABLE", "2": "AVAILABLE"
        }  # fmt: skip
        assert "'none'" in side["refused"]
    inputs = found["metadata"]["inputs"]
    assert inputs["left"] == {"shape": [-1, 3], "dtype": "DT_FLOAT"}
    assert inputs["right"] == {"shape": [-1, 2], "dtype": "DT_INT64"}
    # Over REST it takes apart the answers of OpenVINO's server alone, and passes others on.
    assert "signature_def" in found["rest"]["metadata"]["metadata"]


@pytest.mark.parametrize("engine", ["grpcio", "lane"])
def test_tensorflow_serving_s_client_gets_right_answers(tmp_path: Path, engine: str) -> None:
    found = told("tensorflow-serving-api", tmp_path, "--grpc-engine", engine)
    assert found["multi"] == MULTI
    assert found["filtered"] == {"total": MULTI["total"]}
    assert found["version"] == {"tag": [1], "sum": [1.5]}
    assert found["words"] == [2, -1]
    assert found["refused"].startswith("NOT_FOUND: ")
    assert found["classify"] == "UNIMPLEMENTED"
    assert found["metadata"] == {"left": [1, [-1, 3]], "right": [9, [-1, 2]]}
    assert found["status"] == {"1": "AVAILABLE", "2": "AVAILABLE"}
