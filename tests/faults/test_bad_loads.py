"""Models that crash, hang, eat memory or cannot be read at load disturb nobody else."""

from __future__ import annotations

import resource
import socket
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from tests.faults.client import Answer, Client, rows_of
from tests.models import (
    crash_at_load,
    exhaust_memory_at_load,
    garbage,
    hang_at_load,
    missing_external_data,
    mlp,
    oversized,
    truncated,
    unsupported_opset,
)
from tests.server import ServerProcess, serving, until

_HANG_S = 6
_MEMORY_BYTES = 1 << 30

_REASONS = {
    "crash": "the worker died while loading: ended by SIGFPE",
    "garbage": "the content is of no format that is known here",
    "greedy": "needs more memory than there is",
    "hang": f"loading took longer than {_HANG_S} s and was ended",
    "opset": "opset 99 of ai.onnx is newer",
    "truncated": "not a whole ONNX model",
    "weightless": "with the model's weights is missing",
}
"""What the server must say of each bad model."""


def _repository(root: Path) -> Path:
    """Write one good model among the bad; returns the good one's file."""

    def file(name: str) -> Path:
        return root / name / "1" / "model.onnx"

    crash_at_load(file("crash"))
    garbage(file("garbage"))
    exhaust_memory_at_load(file("greedy"))
    hang_at_load(file("hang"), steps=10_000)
    unsupported_opset(file("opset"))
    truncated(file("truncated"))
    missing_external_data(file("weightless"))
    return mlp(file("mlp"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Poller:
    """Calls the good model all the time and keeps what came."""

    def __init__(self, port: int, right: list[float]) -> None:
        self._port = port
        self._right = right
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.longest_gap_s = 0.0
        self.answers = 0
        self.wrong: list[object] = []

    def __enter__(self) -> _Poller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        client = Client(self._port, "mlp")
        last = 0.0
        while not self._end.wait(0.005):
            answer = client.send(x=[0.5] * 16)
            now = time.monotonic()
            good = isinstance(answer, Answer) and answer.status == 200
            if good:
                assert isinstance(answer, Answer)
                if not np.allclose(answer.body["instances"][0]["y"], self._right, 1e-4, 1e-5):
                    self.wrong.append(answer)
                self.answers += 1
                self.longest_gap_s = max(self.longest_gap_s, now - last if last else 0.0)
                last = now
            elif self.answers or (isinstance(answer, Answer) and answer.status not in (404, 503)):
                self.wrong.append(answer)
        client.close()


def test_good_model_answers_while_its_neighbours_fail_to_load(tmp_path: Path) -> None:
    model = _repository(tmp_path / "models")
    right = rows_of(model, "x", np.full((1, 16), 0.5, np.float32))[0].tolist()
    port = _free_port()
    options = ("--rest-port", str(port), "--load-timeout-s", str(_HANG_S))
    with (
        serving(tmp_path / "models", tmp_path / "run", *options, wait=False) as server,
        _Poller(port, right) as poller,
    ):
        # The greedy one would take all that this machine has.
        psutil.Process(server.pid).rlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES,) * 2)
        began = time.monotonic()
        until(lambda: poller.answers or poller.wrong, 15, "the good model's first answer")
        first_s = time.monotonic() - began
        assert not (tmp_path / "run" / "ready.json").exists(), (
            "the good model was served only after all was settled"
        )
        server.wait_ready(25)
        settled_s = time.monotonic() - began
        answers = poller.answers
        until(lambda: poller.answers > answers, 5, "an answer after all was settled")
        print(
            f"first answer after {first_s:.1f} s, all settled after {settled_s:.1f} s, "
            f"{poller.answers} answers, longest gap {poller.longest_gap_s * 1e3:.0f} ms"
        )
        for name, reason in _REASONS.items():
            _check_failed(server, name, reason)
        assert not poller.wrong, poller.wrong[:3]
        assert poller.longest_gap_s < 2
        assert server.get("/v2/health/ready")[0] == 200
        assert "worker ended" not in server.log()


def test_model_behind_a_huge_one_is_served_before_that_is_read(tmp_path: Path) -> None:
    # 256 GiB of weights that take no disk: reading them all takes minutes on any machine.
    oversized(tmp_path / "models" / "a_huge" / "1" / "model.onnx", mb=1 << 18)
    model = mlp(tmp_path / "models" / "mlp" / "1" / "model.onnx")
    right = rows_of(model, "x", np.full((1, 16), 0.5, np.float32))[0].tolist()
    port = _free_port()
    options = ("--rest-port", str(port))
    with serving(tmp_path / "models", tmp_path / "run", *options, wait=False) as server:
        with _Poller(port, right) as poller:
            until(lambda: poller.answers or poller.wrong, 15, "the good model's first answer")
        assert not poller.wrong, poller.wrong[:3]
        assert not (tmp_path / "run" / "ready.json").exists()
        family = server.children()
        assert server.stop(10) == 0
        assert not any(child.is_running() for child in family)
    assert "Traceback" not in server.log()


def _check_failed(server: ServerProcess, name: str, reason: str) -> None:
    """Hold that clients and the log are told the same reason, and no path of the machine."""
    status, body = server.get(f"/v2/models/{name}")
    assert status == 503, (name, body)
    assert f"servable {name!r} version 1 is FAILED" in body["error"]
    assert reason in body["error"], (name, body)
    assert str(server.log_file.parents[1]) not in body["error"]
    lines = [line for line in server.log().splitlines() if f"servable={name} " in line]
    assert any("ERROR" in line and reason in line for line in lines), (name, lines)
