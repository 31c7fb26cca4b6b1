"""A run that takes too long is ended, with its worker if need be; only its request fails."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.client import Answer, Client, Refused
from tests.models import grinding, spinning
from tests.server import ServerProcess, serving, until

_FOR_EVER = 2**40
_LONG = 9000
_GRINDING_TOML = """\
max_batch_size = 8
max_queue_delay_ms = 3000
run_timeout_s = 2

[batch_axes]
inputs = { x = 0 }
outputs = { y = 0 }
"""


def _call(server: ServerProcess, servable: str, **inputs: object) -> Answer:
    with Client(server.rest_port, servable) as client:
        answer = client.send(**inputs)
    assert isinstance(answer, Answer), answer
    return answer


def _check_timeout(answer: Answer | Refused, limit_s: str) -> None:
    assert isinstance(answer, Answer), answer
    assert answer.status == 504, answer
    assert answer.body["code"] == "run_timeout"
    assert answer.body["expected"] == f"at most {limit_s} s"
    assert "run_timeout_s" in answer.body["fix"]


def test_run_beyond_its_limit_is_ended_and_its_worker_goes_on(tmp_path: Path) -> None:
    spinning(tmp_path / "models" / "spinning" / "1" / "model.onnx")
    with serving(tmp_path / "models", tmp_path / "run", "--run-timeout-s", "0.5") as server:
        (worker,) = server.workers()
        _check_timeout(_call(server, "spinning", turns=[_FOR_EVER]), "0.5")
        answer = _call(server, "spinning", turns=[7])
        assert answer.body["instances"][0]["y"] == [7]
        assert worker.is_running()
        assert "worker ended" not in server.log()
        assert server.stop() == 0


def test_servable_s_own_limit_wins_and_zero_is_none(tmp_path: Path) -> None:
    spinning(tmp_path / "models" / "spinning" / "1" / "model.onnx")
    (tmp_path / "models" / "spinning" / "servable.toml").write_text("run_timeout_s = 0\n")
    with (
        serving(tmp_path / "models", tmp_path / "run", "--run-timeout-s", "0.3") as server,
        Client(server.rest_port, "spinning", timeout_s=1.5) as client,
    ):
        with pytest.raises(TimeoutError):
            client.send(turns=[_FOR_EVER])
        client.close()
        assert "a run takes longer" not in server.log()


def test_run_that_does_not_heed_the_end_is_ended_with_its_worker_and_tried_apart(
    tmp_path: Path,
) -> None:
    grinding(tmp_path / "models" / "grinding" / "1" / "model.onnx")
    (tmp_path / "models" / "grinding" / "servable.toml").write_text(_GRINDING_TOML)
    values = [1, 2, 3, _LONG, 5, 6, 7, 8]
    with serving(tmp_path / "models", tmp_path / "run") as server:
        with ThreadPoolExecutor(8) as pool:
            began = time.monotonic()
            answers = list(pool.map(lambda x: _call(server, "grinding", x=x), values))
            took_s = time.monotonic() - began
        for value, answer in zip(values, answers, strict=True):
            if value == _LONG:
                _check_timeout(answer, "2")
            else:
                assert answer.status == 200, answer
                assert answer.body["instances"][0]["y"] == value
        print(f"a hang among eight was found and ended in {took_s:.1f} s")
        log = server.log()
        assert log.count("worker ended") == 1
        assert "8 suspects are tried apart" in log, log
        until(lambda: len(server.workers()) == 1, 10, "the serving worker, and no other")
        assert _call(server, "grinding", x=4).status == 200
        assert server.stop() == 0
