"""The OpenAPI document, and what schemathesis makes of it: nothing it thinks of is a 5xx."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import models
from tests.server import serving

CONFIG = """
[parameters]
name = "multi"
version = 1
"""


@pytest.mark.timeout(400)
def test_openapi_requests_never_meet_a_server_error(tmp_path: Path) -> None:
    models.multi(tmp_path / "models" / "multi.onnx")
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    with serving(tmp_path / "models", tmp_path / "scratch") as server:
        ran = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                "--config-file", str(config), "--no-color",
                "run", f"{server.base}/openapi.json",
                "--checks", "not_a_server_error", "--max-examples", "25",
            ],
            capture_output=True, text=True, timeout=280, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        told = re.search(r"(\d+) generated, (\d+) passed", ran.stdout)
        assert told, ran.stdout
        assert int(told[1]) == int(told[2]) >= 300
        status, answer = server.predict({"inputs": {"left": [[1, 2, 3]], "right": [[4, 5]]}})
        assert (status, answer["outputs"]["total"]) == (200, [6.0])
        assert "Traceback" not in server.log()
