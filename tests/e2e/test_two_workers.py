"""With two workers both work: they share the load of many clients and run side by side."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from tests import models
from tests.faults.client import Answer, Client
from tests.server import ServerProcess, serving, until

_CLIENTS = 8
_CALLS = 12
_RUN = re.compile(r" DEBUG (cpu-\d+) +ran (\d+) rows")


def _clients(server: ServerProcess) -> None:
    """Let clients that start together call one after the other, each with a row of its own."""
    barrier = Barrier(_CLIENTS)

    def one(number: int) -> None:
        with Client(server.rest_port, "slow") as client:
            client.connect()
            barrier.wait(20)
            for _ in range(_CALLS):
                answer = client.send(x=[number / _CLIENTS] * 4)
                assert isinstance(answer, Answer), answer
                assert answer.status == 200, answer
                given = answer.body["instances"][0]["y"]
                assert given == pytest.approx([number / _CLIENTS], abs=1e-3)

    with ThreadPoolExecutor(_CLIENTS) as pool:
        list(pool.map(one, range(_CLIENTS)))


def test_two_workers_share_the_load_of_eight_clients(tmp_path: Path) -> None:
    models.slow(tmp_path / "models" / "slow" / "1" / "model.onnx", ms=3)
    options = ("--workers", "2", "--log-level", "debug")
    with serving(tmp_path / "models", tmp_path / "run", *options) as server:
        _clients(server)
        assert server.stop() == 0
        rows: Counter[str] = Counter()
        for worker, count in _RUN.findall(server.log()):
            rows[worker] += int(count)
    assert set(rows) == {"cpu-0", "cpu-1"}
    assert rows.total() == _CLIENTS * _CALLS
    # Far from an even half, which a busy machine may keep from them, and far from a stray run.
    assert min(rows.values()) >= _CLIENTS * _CALLS // 10


def test_two_workers_run_two_long_requests_at_the_same_time(tmp_path: Path) -> None:
    models.spinning(tmp_path / "models" / "spinning" / "1" / "model.onnx")
    with (
        serving(tmp_path / "models", tmp_path / "run", "--workers", "2") as server,
        ThreadPoolExecutor(2) as pool,
        Client(server.rest_port, "spinning") as first,
        Client(server.rest_port, "spinning") as second,
    ):
        workers = server.workers()
        assert len(workers) == 2
        spent = [worker.cpu_times().user for worker in workers]
        calls = [pool.submit(client.send, turns=[2**40]) for client in (first, second)]

        def both_run() -> bool:
            times = [worker.cpu_times().user for worker in workers]
            return all(now > then + 0.1 for now, then in zip(times, spent, strict=True))

        until(both_run, 20, "both workers to run")
        assert not any(call.done() for call in calls)
        # Neither would ever end: the second signal cuts them off.
        server.process.terminate()
        until(lambda: "once more to stop at once" in server.log(), 5, "the drain")
        server.process.terminate()
        assert server.process.wait(10) == 128 + 15
