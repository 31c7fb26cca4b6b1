"""MindSpore Serving's own Python client, 2.0.2, in the interpreter that it is for.

Its wheel wants Python 3.9, numpy below 1.24 and protobuf below 4, so that it cannot be installed
beside the server: MINDSPORE_SERVING_PYTHON names an interpreter that has it. What it sent and got
from its own server is in ``tests/data/mindspore_serving/client.json``, which other tests play back
without it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.servables import lay_out
from tests.server import serving

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "tests" / "data" / "mindspore_serving" / "client.json"
PYTHON = os.environ.get("MINDSPORE_SERVING_PYTHON", "")

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not PYTHON, reason="MINDSPORE_SERVING_PYTHON names no interpreter"),
]


def play(address: str, *tls: Path) -> Sequence[str]:
    told = subprocess.run(
        [PYTHON, ROOT / "tests" / "real" / "mindspore_client_calls.py", ROWS, address, *tls],
        capture_output=True,
        text=True,
        timeout=120,
        env={name: v for name, v in os.environ.items() if not name.startswith("PYTHON")},
    )
    assert told.returncode == 0, told.stderr
    return told.stdout.splitlines()


@pytest.mark.parametrize("engine", ["grpcio", "lane"])
def test_their_client_gets_what_it_got_from_its_own_server(tmp_path: Path, engine: str) -> None:
    models = lay_out(tmp_path / "models", ["add", "addb", "kinds"])
    with serving(models, tmp_path / "run", "--grpc-engine", engine) as server:
        *different, count = play(server.grpc)
    assert different == []
    assert count.split()[0] == count.split()[2]


def test_their_client_connects_with_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own, friend = authority.sign("own"), authority.sign("friend")
    models = lay_out(tmp_path / "models", ["add", "addb", "kinds"])
    options = [
        "--tls-cert", str(own.certificate), "--tls-key", str(own.key),
        "--tls-client-ca", str(authority.certificate),
    ]  # fmt: skip
    with serving(models, tmp_path / "run", *options) as server:
        address = f"localhost:{server.grpc_port}"
        *different, count = play(address, authority.certificate, *friend)
    assert different == []
    assert count.split()[0] == count.split()[2]
