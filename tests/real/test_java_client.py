"""Java's own HTTP client (``java.net.http``, since 11), which offers HTTP/2 unless told not to."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.contract.rest.running import CALL, ECHO, V2, serving
from tests.doubles.plane import StubPlane

PROGRAM = Path(__file__).with_name("HttpCalls.java")
IN_TURN, AT_ONCE = 5, 16

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("javac") is None, reason="there is no Java compiler"),
]


@pytest.mark.parametrize(
    ("path", "call"), [("/predict", CALL), ("/v2/models/echo/infer", V2)], ids=["predict", "v2"]
)
async def test_java_client_gets_right_answers(path: str, call: object) -> None:
    async with serving(StubPlane(ECHO)) as front:
        url = f"http://127.0.0.1:{front.port}{path}"
        command = ["java", str(PROGRAM), url, json.dumps(call), str(IN_TURN), str(AT_ONCE)]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == IN_TURN + AT_ONCE
    for line in lines:
        status, body = line.split(" ", 1)
        told = json.loads(body)
        assert status == "200"
        if path == "/predict":
            assert told["instances"] == [{"x": [1, 2]}]
        else:
            assert told["outputs"][0]["data"] == [1, 2]
