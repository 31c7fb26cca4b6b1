"""The clients that users of KServe, MLServer and PyTriton have, unchanged, get right answers.

And so does one that is generated from ``/openapi.json``. ``SERVING_TEST_CLIENTS`` names those that
are tried: ``kserve``, ``mlserver``, ``nvidia-pytriton`` (1 GB installed) and
``openapi-python-client``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests import models
from tests.real.client_environment import python_with, run_calls
from tests.server import serving

CALLS = Path(__file__).with_name("inference_calls.py")
CHOSEN = os.environ.get("SERVING_TEST_CLIENTS", "").split()
MULTI = {
    "total": [2.5, 1.0],
    "doubled": [[8, 10], [-12, 14]],
    "positive": [[True, False, True], [False, False, True]],
}
ROWS = [dict(zip(MULTI, row, strict=True)) for row in zip(*MULTI.values(), strict=True)]

pytestmark = pytest.mark.real
both_engines = pytest.mark.parametrize("engine", ["grpcio", "lane"])


def told(package: str, home: Path, engine: str) -> Any:
    if package not in CHOSEN:
        pytest.skip(f"SERVING_TEST_CLIENTS does not ask for {package}")
    python = python_with(package)
    models.multi(home / "models" / "multi.onnx")
    models.string_lookup(home / "models" / "words.onnx")
    options = ("--grpc-engine", engine, "--max-request-mb", "2")
    with serving(home / "models", home / "run", *options) as server:
        printed = run_calls(python, CALLS, package, server)
    return json.loads(printed.splitlines()[-1])


@both_engines
def test_kserve_s_client_gets_right_answers(tmp_path: Path, engine: str) -> None:
    found = told("kserve", tmp_path, engine)
    assert found["v1"] == ROWS
    assert found["alive"] == [True] * 6
    for way in ("rest False", "rest True", "grpc False", "grpc True"):
        assert found[way] == MULTI, way
    assert "'none'" in found["refused"]
    assert found["too large"] == 413


@both_engines
def test_mlserver_s_client_gets_right_answers(tmp_path: Path, engine: str) -> None:
    found = told("mlserver", tmp_path, engine)
    for way in ("rest", "grpc False", "grpc True"):
        assert {name: flat(value) for name, value in found[way].items()} == MULTI, way
    assert found["inputs"] == 2
    assert flat(found["words"]) == [2, -1]
    assert found["command"] == [MULTI["total"]] * 5


@both_engines
def test_pytriton_s_clients_get_right_answers(tmp_path: Path, engine: str) -> None:
    found = told("nvidia-pytriton", tmp_path, engine)
    for way in ("grpc", "http"):
        assert found[way] == found[f"{way} aio"] == MULTI
        assert found[f"{way} sample"] == ROWS[0]
        assert found[f"{way} words"] == {"number": [2, -1]}
    assert found["futures"] == [MULTI] * 20


def test_client_made_from_openapi_gets_right_answers(tmp_path: Path) -> None:
    found = told("openapi-python-client", tmp_path, "lane")
    assert found["warnings"] == []
    assert found["predict"] == found["infer"] == MULTI
    assert "'none'" in found["refused"]


def flat(value: list[Any]) -> list[Any]:
    """Return numbers without the lists of one that MLServer puts around each."""
    single = all(isinstance(row, list) and len(row) == 1 for row in value)
    return [row[0] for row in value] if single else value
