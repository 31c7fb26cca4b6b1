"""A worker that is killed costs a request at most a clear refusal, never a wrong answer."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tests.faults.client import Answer, Client, rows_of
from tests.models import mlp
from tests.server import ServerProcess, serving, until

_CLIENTS = 32
_WHOLE_AGAIN_S = 20.0


class _Load:
    """Clients that call in a loop with inputs of their own, and what became of each call."""

    def __init__(self, server: ServerProcess, model: Path) -> None:
        self._server = server
        self._rows = np.random.default_rng(1).standard_normal((_CLIENTS, 16)).astype(np.float32)
        self._right = rows_of(model, "x", self._rows)
        self._end = threading.Event()
        self.answered = [0] * _CLIENTS
        self.refused = [0] * _CLIENTS

    def run(self, number: int) -> None:
        client = Client(self._server.rest_port, "mlp")
        instance = self._rows[number].tolist()
        try:
            while not self._end.is_set():
                answer = client.send(x=instance)
                assert isinstance(answer, Answer), answer
                self._judge(number, answer)
        finally:
            client.close()

    def end(self) -> None:
        self._end.set()

    def _judge(self, number: int, answer: Answer) -> None:
        if answer.status == 503:
            assert answer.body["code"] == "worker_lost", answer
            assert answer.body["fix"] == "send it again"
            self.refused[number] += 1
            return
        assert answer.status == 200, answer
        given = np.array(answer.body["instances"][0]["y"], np.float32)
        np.testing.assert_allclose(given, self._right[number], rtol=1e-4, atol=1e-5)
        self.answered[number] += 1


def test_killed_worker_costs_no_wrong_answer_and_is_replaced(tmp_path: Path) -> None:
    model = mlp(tmp_path / "models" / "mlp" / "1" / "model.onnx")
    with serving(tmp_path / "models", tmp_path / "run") as server:
        load = _Load(server, model)
        with ThreadPoolExecutor(_CLIENTS) as pool:
            clients = [pool.submit(load.run, number) for number in range(_CLIENTS)]
            try:
                until(lambda: min(load.answered) >= 3, 20, "three answers for every client")
                whole_again_s = _kill_and_wait(server, load)
                before = list(load.answered)
                until(
                    lambda: all(now > was for now, was in zip(load.answered, before, strict=True)),
                    20, "an answer for every client after the crash",
                )  # fmt: skip
            finally:
                load.end()
            for client in clients:
                client.result()
        print(
            f"whole again {whole_again_s:.2f} s after a kill -9; "
            f"{sum(load.answered)} right answers, {sum(load.refused)} refusals (503)"
        )
        assert whole_again_s <= _WHOLE_AGAIN_S
        # Nobody crashed the second time a request ran, so each got its answer in the end.
        assert sum(load.refused) == 0
        assert server.get("/v2/health/ready")[0] == 200
        assert "worker ended" in server.log()
        assert server.stop() == 0


def _kill_and_wait(server: ServerProcess, load: _Load) -> float:
    """Kill the worker; returns the seconds until a new one has answered."""
    (worker,) = server.workers()
    began = time.monotonic()
    worker.kill()
    until(lambda: not worker.is_running(), 20, "the worker's end")
    answered = sum(load.answered)
    until(lambda: sum(load.answered) > answered, 20, "an answer of the new worker")
    return time.monotonic() - began


def test_second_worker_answers_while_the_first_is_replaced(tmp_path: Path) -> None:
    mlp(tmp_path / "models" / "mlp" / "1" / "model.onnx")
    with serving(tmp_path / "models", tmp_path / "run", "--workers", "2") as server:
        first, second = server.workers()
        first.kill()
        client = Client(server.rest_port, "mlp")
        began = time.monotonic()
        while len(server.workers()) < 2 or "worker is back" not in server.log():
            answer = client.send(x=[0.5] * 16)
            assert isinstance(answer, Answer)
            assert answer.status == 200, answer
            assert time.monotonic() - began < 10
        client.close()
        assert second.is_running()
        assert server.stop() == 0
