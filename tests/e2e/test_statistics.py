"""A server counts exactly what it was asked, and tells the same over every way to ask."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import models
from tests.server import ServerProcess, serving, until

SCRIPT = Path(__file__).with_name("statistics_calls.py")
DURATIONS = ("success", "queue", "compute_input", "compute_infer", "compute_output")


def ask(server: ServerProcess, version: int, ids: list[Any], shape: list[int] | None = None) -> int:
    """Send one V2 request; returns the HTTP status."""
    shape = [len(ids)] if shape is None else shape
    tensor = {"name": "id", "datatype": "INT64", "shape": shape, "data": ids}
    path = f"/v2/models/picky/versions/{version}/infer"
    return server.post(path, {"inputs": [tensor]})[0]


def metrics(server: ServerProcess) -> dict[tuple[Any, ...], float]:
    with urllib.request.urlopen(f"{server.base}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    return {
        (sample.name.removesuffix("_total"), *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Serve two versions that have met a known mix of requests, one after the other.

    Version 1: three requests of 4 rows. Version 2: five of 1 row, one of 70 rows (which are more
    than a batch: 32, 32 and 6), two whose ids the model refuses, one without rows, one of another
    shape. One call for a version that is not there.
    """
    folder = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        models.picky(folder / "picky" / str(version) / "model.onnx", seed=version)
    (folder / "picky" / "servable.toml").write_text("versions = { latest = 2 }\n")
    with serving(folder, tmp_path_factory.mktemp("server")) as running:
        assert [ask(running, 1, [1, 2, 3, 4]) for _ in range(3)] == [200] * 3
        assert [ask(running, 2, [7]) for _ in range(5)] == [200] * 5
        assert ask(running, 2, [3] * 70) == 200
        assert [ask(running, 2, [99]) for _ in range(2)] == [400] * 2
        assert ask(running, 2, []) == 400
        assert ask(running, 2, [1, 2], [1, 2]) == 400
        assert ask(running, 3, [1]) == 404
        yield running


def stats(server: ServerProcess, path: str) -> list[dict[str, Any]]:
    status, told = server.get(path)
    assert status == 200, told
    return list(told["model_stats"])


def counts(told: dict[str, Any]) -> dict[str, int]:
    return {name: told["inference_stats"][name]["count"] for name in (*DURATIONS, "fail")}


def test_statistics_count_every_request_row_and_run(server: ServerProcess) -> None:
    one, two = stats(server, "/v2/models/picky/stats")
    assert (one["version"], one["inference_count"], one["execution_count"]) == ("1", 12, 3)
    assert counts(one) == {**dict.fromkeys(DURATIONS, 3), "fail": 0}
    assert (two["version"], two["inference_count"], two["execution_count"]) == ("2", 75, 8)
    assert counts(two) == {**dict.fromkeys(DURATIONS, 6), "fail": 2}
    sizes = {
        told["version"]: {b["batch_size"]: b["compute_infer"]["count"] for b in told["batch_stats"]}
        for told in (one, two)
    }
    assert sizes == {"1": {4: 3}, "2": {1: 5, 6: 1, 32: 2}}


def test_statistics_times_add_up(server: ServerProcess) -> None:
    for told in stats(server, "/v2/models/stats"):
        parts = told["inference_stats"]
        assert all(parts[name]["ns"] > 0 for name in DURATIONS)
        # No run was shared, so each run's time is some request's, and no time is two requests'.
        for phase in ("compute_input", "compute_infer", "compute_output"):
            by_run = sum(batch[phase]["ns"] for batch in told["batch_stats"])
            assert parts[phase]["ns"] == by_run
        inside = sum(parts[name]["ns"] for name in DURATIONS[1:])
        assert inside <= parts["success"]["ns"]
        assert 0 <= time.time() * 1e3 - told["last_inference"] < 120_000


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_tritonclient_gets_the_statistics(server: ServerProcess, kind: str) -> None:
    address = f"127.0.0.1:{server.rest_port}" if kind == "http" else server.grpc
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), kind, address, "picky"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)

    def numbers(value: Any) -> Any:
        """Read what protobuf's JSON made strings of, and what it left out because it is 0."""
        if isinstance(value, dict):
            return {k: numbers(v) for k, v in value.items() if v not in (0, {}, [], {"count": 0})}
        if isinstance(value, list):
            return [numbers(item) for item in value]
        return int(value) if isinstance(value, str) and value.isdigit() else value

    def bare(value: Any) -> Any:
        """Leave out durations that were never taken, at whatever depth."""
        if isinstance(value, dict):
            found = {k: bare(v) for k, v in value.items()}
            return {k: v for k, v in found.items() if v not in (0, {}, [])}
        return [bare(item) for item in value] if isinstance(value, list) else value

    everything = bare(numbers({"model_stats": stats(server, "/v2/models/stats")}))
    assert bare(numbers(told["all"])) == bare(numbers(told["one"])) == everything
    assert bare(numbers(told["version"]))["model_stats"] == everything["model_stats"][:1]
    assert told["unknown"] == ("404" if kind == "http" else "StatusCode.NOT_FOUND")


def test_metrics_tell_the_same_numbers(server: ServerProcess) -> None:
    told = metrics(server)
    one, two = ((("model", "picky"), ("version", str(version))) for version in (1, 2))
    wanted = {
        ("nv_inference_request_success", *one): 3,
        ("nv_inference_request_success", *two): 6,
        ("nv_inference_count", *one): 12,
        ("nv_inference_count", *two): 75,
        ("nv_inference_exec_count", *one): 3,
        ("nv_inference_exec_count", *two): 8,
        ("nv_inference_request_failure", two[0], ("reason", "BACKEND"), two[1]): 2,
        ("nv_inference_request_failure", two[0], ("reason", "OTHER"), two[1]): 0,
        ("nv_inference_pending_request_count", *two): 0,
        ("serving_requests_failed", two[0], ("reason", "execution_failed"), two[1]): 2,
        ("serving_requests_refused", two[0], ("reason", "empty_batch"), two[1]): 1,
        ("serving_errors", ("front_end", "rest"), ("reason", "execution_failed")): 2,
        ("serving_errors", ("front_end", "rest"), ("reason", "empty_batch")): 1,
        ("serving_errors", ("front_end", "rest"), ("reason", "wrong_rank")): 1,
        ("serving_errors", ("front_end", "rest"), ("reason", "unknown_version")): 1,
        ("serving_runs_failed", *two): 2,
        ("serving_request_duration_seconds_count", *two): 6,
        ("serving_run_rows_sum", *two): 75,
        ("serving_requests_unfinished", *two): 0,
        ("serving_versions", ("state", "READY")): 2,
        ("serving_worker_up", ("worker", "cpu-0")): 1,
        ("serving_ready",): 1,
    }
    assert {key: told[key] for key in wanted} == wanted
    assert told["serving_worker_resident_memory_bytes", ("worker", "cpu-0")] > 20e6
    assert told[("process_resident_memory_bytes",)] > 20e6
    assert told[("serving_tensor_memory_budget_bytes",)] == 2048 << 20


def test_page_shows_what_was_counted(server: ServerProcess) -> None:
    _, page = server.get("/")
    cells = [row.split("<td class=number>")[1:4] for row in page.split("<tr>") if "'READY'" in row]
    assert cells == [["3", "0", "4.0"], ["6", "2", "9.4"]]


def test_metrics_count_the_restarts_of_a_worker(tmp_path: Path) -> None:
    models.mlp(tmp_path / "models" / "mlp" / "1" / "model.onnx")
    place = (("worker", "cpu-0"),)
    with serving(tmp_path / "models", tmp_path / "run") as server:
        assert metrics(server)["serving_worker_restarts", *place] == 0
        (worker,) = server.workers()
        worker.kill()

        def back() -> bool:
            told = metrics(server)
            return (told["serving_worker_restarts", *place], told["serving_worker_up", *place]) == (
                1,
                1,
            )

        until(back, 30, "the worker to be back")
