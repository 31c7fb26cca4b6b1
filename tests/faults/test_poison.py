"""A request that breaks its run fails alone: its neighbours in the batch get their answers."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from tests.faults.client import Answer, Client, Refused, rows_of
from tests.faults.trap import POISON, trap
from tests.models import picky
from tests.server import ServerProcess, serving, until

# Long enough for eight threads to come together on a busy machine, and cut short by the
# eighth row: the batch is full then.
_TOGETHER = "max_batch_size = 8\nmax_queue_delay_ms = 3000\n"


def _repository(root: Path, name: str) -> Path:
    model = {"picky": picky, "trap": trap}[name](root / name / "1" / "model.onnx")
    (root / name / "servable.toml").write_text(_TOGETHER)
    return model


def _send_together(
    server: ServerProcess, servable: str, name: str, values: Sequence[int]
) -> list[Answer | Refused]:
    """Send one row a client, all at the same moment; answers in the order of the values."""
    barrier = Barrier(len(values))

    def one(value: int) -> Answer | Refused:
        with Client(server.rest_port, servable) as client:
            client.connect()
            barrier.wait(10)
            return client.send(**{name: value})

    with ThreadPoolExecutor(len(values)) as pool:
        return list(pool.map(one, values))


def _check_neighbours(
    answers: Sequence[Answer | Refused], values: Sequence[int], output: str, model: Path, name: str
) -> None:
    right = rows_of(model, name, np.array(values, np.int64))
    for answer, expected in zip(answers, right, strict=True):
        assert isinstance(answer, Answer), answer
        assert answer.status == 200, answer
        np.testing.assert_allclose(answer.body["instances"][0][output], expected, rtol=1e-6)


def test_row_that_the_model_refuses_fails_alone(tmp_path: Path) -> None:
    model = _repository(tmp_path / "models", "picky")
    values = [0, 3, -1, 99, 7, 2, -10, 9]
    with serving(tmp_path / "models", tmp_path / "run") as server:
        answers = _send_together(server, "picky", "id", values)
        poison = answers.pop(values.index(99))
        values.remove(99)
        assert isinstance(poison, Answer)
        assert poison.status == 400, poison
        assert poison.body["code"] == "execution_failed"
        assert "out of data bounds" in poison.body["detail"]
        _check_neighbours(answers, values, "vector", model, "id")
        # The premise: they did share a run, all eight.
        assert "rows=8" in server.log()
        assert len(server.workers()) == 1
        assert "worker ended" not in server.log()
        assert server.stop() == 0


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 traps on this division")
def test_row_that_kills_the_worker_fails_alone(tmp_path: Path) -> None:
    model = _repository(tmp_path / "models", "trap")
    values = [1, 2, -5, 5, POISON, 7, 11, -13]
    with serving(tmp_path / "models", tmp_path / "run") as server:
        answers = _send_together(server, "trap", "x", values)
        poison = answers.pop(values.index(POISON))
        values.remove(POISON)
        _check_poison(poison)
        _check_neighbours(answers, values, "y", model, "x")
        until(lambda: server.get("/v2/health/ready")[0] == 200, 10, "readiness again")
        # One serving worker was lost, in company: what was suspected then was tried apart.
        assert server.log().count("worker ended: ended by SIGFPE") == 1
        assert "8 suspects are tried apart" in server.log()
        again = _send_together(server, "trap", "x", values)
        _check_neighbours(again, values, "y", model, "x")
        assert len(server.workers()) == 1
        assert server.stop() == 0


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 traps on this division")
def test_one_client_of_64_that_kills_the_worker_costs_the_others_nothing(tmp_path: Path) -> None:
    model = _repository(tmp_path / "models", "trap")
    values = [n if n != 40 else POISON for n in range(1, 65)]
    with serving(tmp_path / "models", tmp_path / "run", "--workers", "2") as server:
        answers = _send_together(server, "trap", "x", values)
        _check_poison(answers.pop(values.index(POISON)))
        values.remove(POISON)
        _check_neighbours(answers, values, "y", model, "x")
        assert server.log().count("worker ended: ended by SIGFPE") == 1
        until(lambda: len(server.workers()) == 2, 10, "both workers, and no other")
        assert server.stop() == 0


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 traps on this division")
def test_request_that_is_not_idempotent_is_not_run_again(tmp_path: Path) -> None:
    _repository(tmp_path / "models", "trap")
    with (tmp_path / "models" / "trap" / "servable.toml").open("a") as file:
        file.write("idempotent = false\n")
    with serving(tmp_path / "models", tmp_path / "run") as server:
        answers = _send_together(server, "trap", "x", [1, 2, -5, 5, POISON, 7, 11, -13])
        for answer in answers:
            assert isinstance(answer, Answer)
            assert answer.status == 503, answer
            assert answer.body["code"] == "worker_lost"
            assert "idempotent = false" in answer.body["detail"]
        until(lambda: "worker is back" in server.log(), 10, "another worker")
        assert "suspects" not in server.log()
        assert server.stop() == 0


def _check_poison(answer: Answer | Refused) -> None:
    assert isinstance(answer, Answer)
    assert answer.status == 500, answer
    assert answer.body["code"] == "crashed_the_worker"
    assert answer.body["given"] == "ended by SIGFPE"
