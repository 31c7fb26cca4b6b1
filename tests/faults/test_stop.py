"""A stop under load: what was accepted is answered, nothing is cut off, nothing hangs."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.client import Answer, Client, Refused
from tests.models import slow, spinning
from tests.server import ServerProcess, serving, until

_CLIENTS = 64
_TURNS_OF_SECONDS = 1_000_000


class _Loop:
    """Keep-alive clients that call until the server refuses them."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self.answers = [0] * _CLIENTS
        self.ends: Counter[str] = Counter()
        self._lock = threading.Lock()

    def run(self, number: int) -> None:
        with Client(self._server.rest_port, "slow") as client:
            end = self._call_until_refused(client, number)
        with self._lock:
            self.ends[end] += 1

    def _call_until_refused(self, client: Client, number: int) -> str:
        value = number / _CLIENTS
        while True:
            answer = client.send(x=[value] * 4)
            if not isinstance(answer, Answer):
                return "refused or closed before an answer"
            if answer.status == 503:
                assert answer.body["code"] == "draining", answer
                return "503 draining"
            assert answer.status == 200, answer
            assert answer.body["instances"][0]["y"] == pytest.approx([value], abs=1e-3)
            self.answers[number] += 1


def test_stop_under_load_answers_what_was_accepted(tmp_path: Path) -> None:
    slow(tmp_path / "models" / "slow" / "1" / "model.onnx", ms=20)
    with serving(tmp_path / "models", tmp_path / "run") as server:
        loop = _Loop(server)
        with ThreadPoolExecutor(_CLIENTS) as pool:
            clients = [pool.submit(loop.run, number) for number in range(_CLIENTS)]
            until(lambda: min(loop.answers) >= 1, 20, "an answer for every client")
            before = sum(loop.answers)
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            code = server.process.wait(15)
            took_s = time.monotonic() - began
            for client in clients:
                client.result(10)
        print(
            f"stopped {took_s:.2f} s after SIGTERM; {sum(loop.answers) - before} answers after it, "
            f"then {dict(loop.ends)}"
        )
        assert code == 0
        assert sum(loop.ends.values()) == _CLIENTS
        # With 64 clients that never pause, requests were under way when the signal came.
        assert sum(loop.answers) > before
        assert took_s < 10
    assert "Traceback" not in server.log()


def test_stop_answers_a_long_run_that_had_begun(tmp_path: Path) -> None:
    spinning(tmp_path / "models" / "spinning" / "1" / "model.onnx")
    with (
        serving(tmp_path / "models", tmp_path / "run") as server,
        ThreadPoolExecutor(1) as pool,
        Client(server.rest_port, "spinning") as client,
    ):
        client.connect()
        call = _begin_run(server, pool, client, turns=_TURNS_OF_SECONDS)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "once more to stop at once" in server.log(), 5, "the drain")
        assert not call.done(), "the run was over too early to show anything"
        answer = call.result(20)
        assert isinstance(answer, Answer), answer
        assert answer.status == 200, answer
        assert answer.body["instances"][0]["y"] == [_TURNS_OF_SECONDS]
        assert server.process.wait(5) == 0


def test_second_signal_stops_at_once(tmp_path: Path) -> None:
    spinning(tmp_path / "models" / "spinning" / "1" / "model.onnx")
    with (
        serving(tmp_path / "models", tmp_path / "run") as server,
        ThreadPoolExecutor(1) as pool,
        Client(server.rest_port, "spinning") as client,
    ):
        client.connect()
        (worker,) = server.workers()
        call = _begin_run(server, pool, client, turns=2**40)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "once more to stop at once" in server.log(), 5, "the drain")
        assert server.process.poll() is None
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 128 + signal.SIGTERM
        assert time.monotonic() - began < 5  # a run that is waited for would end after minutes
        assert not isinstance(call.result(20), Answer)
        until(lambda: not _lives(worker.pid), 10, "the worker's end")


def _begin_run(
    server: ServerProcess, pool: ThreadPoolExecutor, client: Client, turns: int
) -> Future[Answer | Refused]:
    """Send a request, and return once its run keeps the worker busy."""
    (worker,) = server.workers()
    spent = worker.cpu_times().user
    call = pool.submit(client.send, turns=[turns])
    until(lambda: worker.cpu_times().user > spent + 0.1, 10, "a run that has begun")
    return call


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
