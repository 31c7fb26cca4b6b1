"""A worker that holds too much memory is replaced between runs, and no request is lost for it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serving.master.memory import own_mb
from tests.faults.client import Answer, Client
from tests.models import greedy
from tests.server import ServerProcess, serving, until

_LIMIT_MB = 250
_CLIENTS = 4
_FLOATS_PER_MB = 262_144


def _ask(server: ServerProcess, end: threading.Event) -> int:
    answers = 0
    with Client(server.rest_port, "greedy") as client:
        while not end.is_set():
            answer = client.send(mb=[2])
            assert isinstance(answer, Answer), answer
            assert answer.status == 200, answer
            assert answer.body["instances"][0]["total"] == [2.0 * _FLOATS_PER_MB]
            answers += 1
            time.sleep(0.005)
    return answers


def test_worker_over_its_limit_is_replaced_and_no_request_fails(tmp_path: Path) -> None:
    greedy(tmp_path / "models" / "greedy" / "1" / "model.onnx")
    options = ("--worker-memory-limit-mb", str(_LIMIT_MB))
    with serving(tmp_path / "models", tmp_path / "run", *options) as server:
        (worker,) = server.workers()
        end = threading.Event()
        with ThreadPoolExecutor(_CLIENTS) as pool:
            clients = [pool.submit(_ask, server, end) for _ in range(_CLIENTS)]
            try:
                with Client(server.rest_port, "greedy") as client:
                    answer = client.send(mb=[400])
                    assert isinstance(answer, Answer)
                    assert answer.status == 200, answer
                assert own_mb(worker.pid) > _LIMIT_MB, "the premise: the engine keeps memory"
                until(lambda: "worker is replaced" in server.log(), 15, "another worker")
            finally:
                end.set()
            assert min(client.result() for client in clients) > 0
        (fresh,) = server.workers()
        assert fresh.pid != worker.pid
        assert own_mb(fresh.pid) < _LIMIT_MB
        assert "worker ended" not in server.log()
        assert server.stop() == 0
