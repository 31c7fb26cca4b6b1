"""What ``/metrics`` tells, as Prometheus' own parser reads it, and who relies on the names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from serving.config import ServerSettings
from serving.frontends.rest import exposition, metrics
from serving.frontends.rest.statistics_routes import METRICS
from serving.lifecycle.state import State
from tests.doubles.statistics import BUSY, IDLE, MIB, server

ROOT = Path(__file__).parents[4]
DASHBOARD = ROOT / "deploy" / "grafana" / "serving.json"
LISTED: list[dict[str, Any]] = [
    {"name": "busy", "version": 2, "state": "READY"},
    {"name": "idle", "version": 1, "state": "READY"},
    {"name": "bad", "version": None, "state": "FAILED"},
]
FAMILIES = metrics.families(server(BUSY, IDLE), LISTED, True)
TEXT = exposition.text(FAMILIES)
NAMES = {family.name for family in FAMILIES}


def told_as(name: str) -> str:
    """Return a series' name; the parser gives every counter the ending that OpenMetrics wants."""
    short = name.removesuffix("_total")
    return short if short in NAMES else name


PARSED = {
    (told_as(sample.name), *sorted(sample.labels.items())): sample.value
    for family in text_string_to_metric_families(TEXT)
    for sample in family.samples
}
SERIES = {key[0] for key in PARSED} | NAMES


def of(name: str, model: str = "busy", version: str = "2", **labels: str) -> float:
    return PARSED[(name, *sorted({"model": model, "version": version, **labels}.items()))]


def test_metrics_are_told_once_each_and_explained() -> None:
    names = [family.name for family in FAMILIES]
    assert len(names) == len(set(names))
    assert len(PARSED) == sum(1 for line in TEXT.splitlines() if not line.startswith("#"))
    for family in FAMILIES:
        assert family.meaning
        assert "\n" not in family.meaning
        assert "\\" not in family.meaning


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nv_inference_request_success", 5),
        ("nv_inference_count", 11),
        ("nv_inference_exec_count", 4),
        ("nv_inference_request_duration_us", 9000),
        ("nv_inference_queue_duration_us", 4001),
        ("nv_inference_compute_input_duration_us", 30),
        ("nv_inference_compute_infer_duration_us", 3000),
        ("nv_inference_compute_output_duration_us", 60),
        ("nv_inference_pending_request_count", 3),
        ("serving_runs_failed_total", 2),
        ("serving_requests_unfinished", 7),
        ("serving_rows_waiting", 5),
        ("serving_bytes_waiting", 4096),
        ("serving_request_duration_seconds_sum", 0.009),
        ("serving_request_duration_seconds_count", 5),
        ("serving_run_rows_sum", 11),
        ("serving_run_rows_count", 4),
    ],
)
def test_metrics_of_a_version_have_its_numbers(name: str, value: float) -> None:
    assert of(name) == value
    assert of(name, "idle", "1") == 0


def test_metrics_count_failures_by_triton_s_reasons() -> None:
    told = {r: of("nv_inference_request_failure", reason=r) for r in ("REJECTED", "BACKEND")}
    assert told == {"REJECTED": 22, "BACKEND": 9}
    assert of("nv_inference_request_failure", "idle", "1", reason="CANCELED") == 0


def test_metrics_count_errors_by_code() -> None:
    assert of("serving_requests_failed_total", reason="worker_lost") == 6
    assert of("serving_requests_refused_total", reason="queue_full") == 20
    assert of("serving_requests_refused_total", reason="wrong_shape") == 100


def test_metrics_count_a_request_in_every_bucket_that_it_fits() -> None:
    name = "serving_request_duration_seconds_bucket"
    # Four took at most 1 ms and more than 0.5 ms, one took longer than the last bound.
    assert [of(name, le=le) for le in ("0.0005", "0.001", "30", "+Inf")] == [0, 4, 4, 5]


def test_metrics_count_runs_by_their_rows() -> None:
    name = "serving_run_rows_bucket"
    assert [of(name, le=le) for le in ("1", "4", "8", "1024", "+Inf")] == [3, 3, 4, 4, 4]


def test_metrics_of_the_server_tell_workers_memory_and_states() -> None:
    assert PARSED["serving_worker_up", ("worker", "cpu-0")] == 1
    assert PARSED["serving_worker_up", ("worker", "cpu-1")] == 0
    assert PARSED["serving_worker_restarts_total", ("worker", "cpu-1")] == 4
    assert PARSED["serving_worker_cpu_seconds_total", ("worker", "cpu-0")] == 2.5
    assert PARSED["serving_worker_resident_memory_bytes", ("worker", "cpu-0")] == 50 * MIB
    assert ("serving_worker_resident_memory_bytes", ("worker", "cpu-1")) not in PARSED
    down = (("device", "gpu:0"), ("down", 'it "fell" off'), ("worker", "gpu-0"))
    assert PARSED["serving_worker_device_info", *down] == 1
    assert PARSED["serving_worker_runs_total", ("worker", "gpu-0")] == 11
    assert PARSED["serving_worker_rows_total", ("worker", "gpu-0")] == 44
    assert PARSED["serving_errors_total", ("front_end", "rest"), ("reason", "wrong_dtype")] == 9
    sizes = {k: PARSED[(f"serving_tensor_memory_{k}_bytes",)] for k in ("lent", "held", "budget")}
    assert sizes == {"lent": 3 * MIB, "held": 8 * MIB, "budget": 2048 * MIB}
    states = {s: PARSED["serving_versions", ("state", s)] for s in ("READY", "FAILED", "LOADING")}
    assert states == {"READY": 2, "FAILED": 1, "LOADING": 0}
    assert PARSED[("process_cpu_seconds_total",)] == 1.25
    assert PARSED[("process_resident_memory_bytes",)] == 80 * MIB
    assert PARSED[("process_start_time_seconds",)] == 1_600_000_000.5
    assert PARSED[("serving_ready",)] == 1


def test_metrics_know_every_state_of_a_version() -> None:
    (family,) = [family for family in FAMILIES if family.name == "serving_versions"]
    assert {dict(s.labels)["state"] for s in family.samples} == {state.value for state in State}


def test_metrics_are_all_in_the_guide_and_the_guide_names_no_others() -> None:
    guide = (ROOT / "docs" / "metrics.md").read_text()
    assert set(re.findall(r"^\| `((?:nv|serving|process)_\w+)", guide, re.MULTILINE)) == NAMES


def test_prometheus_is_told_where_the_metrics_are() -> None:
    (job,) = yaml.safe_load((DASHBOARD.parent / "prometheus.yml").read_text())["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    assert target == f"localhost:{ServerSettings.rest_port}"
    assert job.get("metrics_path", "/metrics") == METRICS


def test_dashboard_asks_for_metrics_that_are_told() -> None:
    board = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    asked += [v["query"]["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    assert len(asked) >= 12
    for expression in asked:
        named = set(re.findall(r"\b(?:nv|serving|process)_\w+", expression))
        assert named, expression
        assert named <= SERIES, expression
        assert expression.count("(") == expression.count(")")
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
