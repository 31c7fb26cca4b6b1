"""A version that does nothing but end its workers is taken down; the others go on."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import pytest

from tests.faults.client import Answer, Client
from tests.faults.trap import POISON, trap
from tests.models import mlp
from tests.server import ServerProcess, serving, until

_LOOP = 5
_REASON = "it ended its worker 5 times within 60 s and did nothing right in between"


def _call(server: ServerProcess, value: int) -> Answer:
    with Client(server.rest_port, "trap") as client:
        answer = client.send(x=value)
    assert isinstance(answer, Answer), answer
    return answer


def _mlp_answers(server: ServerProcess) -> bool:
    with Client(server.rest_port, "mlp") as client:
        answer = client.send(x=[0.5] * 16)
    return isinstance(answer, Answer) and answer.status == 200


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 traps on this division")
def test_version_that_only_crashes_fails_and_is_served_again_when_it_changes(
    tmp_path: Path,
) -> None:
    models = tmp_path / "models"
    file = trap(models / "trap" / "1" / "model.onnx")
    mlp(models / "mlp" / "1" / "model.onnx")
    with serving(models, tmp_path / "run", "--poll-interval-s", "0.1") as server:
        assert _call(server, 1).status == 200
        for _ in range(_LOOP - 1):
            assert _call(server, POISON).body["code"] == "crashed_the_worker"
            assert _mlp_answers(server)
        # An answer clears what was before it: none of these ends it.
        assert _call(server, 1).status == 200
        for _ in range(_LOOP):
            answer = _call(server, POISON)
            assert answer.status in (500, 503), answer
        until(lambda: _REASON in server.log(), 5, "the verdict")
        answer = _call(server, 1)
        assert answer.status == 503
        assert "is FAILED" in answer.body["detail"]
        assert _REASON in answer.body["detail"]
        assert "ended by SIGFPE" in answer.body["detail"]
        until(lambda: _mlp_answers(server), 5, "an answer of the other servable")
        assert server.get("/v2/models/mlp/ready")[0] == 200
        assert server.get("/v2/health/ready")[0] == 503, "what was ready is lost"
        time.sleep(0.3)  # several looks at the folder
        assert _call(server, 1).status == 503, "the same files are not tried again"
        file.with_suffix(".new").write_bytes(file.read_bytes())
        file.with_suffix(".new").rename(file)
        until(lambda: _call(server, 1).status == 200, 10, "the changed version")
        assert server.get("/v2/health/ready")[0] == 200
        assert server.stop() == 0
        assert "Traceback" not in server.log()
