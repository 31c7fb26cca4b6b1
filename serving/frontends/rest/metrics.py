"""Which metrics ``GET /metrics`` tells, and how each follows from the statistics.

Names that begin with ``nv_`` are Triton's, with Triton's labels and meaning, so that dashboards
made for it go on working; ``serving_`` are our own; ``process_`` are what Prometheus' client
libraries tell of any process, here of the master.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from serving import __version__
from serving.frontends import v2_statistics
from serving.frontends.rest import stage_metrics
from serving.frontends.rest.exposition import Family, Labels, Sample, histogram
from serving.statistics import (
    LATENCY_BOUNDS_S,
    ServerStatistics,
    Unanswered,
    VersionStatistics,
    WorkerStatistics,
)

_ROWS_BOUNDS = tuple(1 << power for power in range(11))
_STATES = ("NEW", "LOADING", "WARMING", "READY", "DRAINING", "UNLOADED", "FAILED")

Kind = Literal["counter", "gauge"]

_TRITON: tuple[tuple[str, Kind, str, Callable[[VersionStatistics], float]], ...] = (
    ("nv_inference_request_success", "counter", "Requests that were answered",
     lambda seen: seen.successes),
    ("nv_inference_count", "counter", "Rows of requests that were answered",
     lambda seen: seen.rows),
    ("nv_inference_exec_count", "counter", "Runs of the model, whatever their size",
     lambda seen: seen.executions),
    ("nv_inference_request_duration_us", "counter",
     "Microseconds from taking a request in to its answer, all answered requests together",
     lambda seen: seen.success_ns // 1000),
    ("nv_inference_queue_duration_us", "counter",
     "Microseconds that answered requests waited before they were sent to a worker",
     lambda seen: seen.queue_ns // 1000),
    ("nv_inference_compute_input_duration_us", "counter",
     "Microseconds of preparing inputs; each request counts its run's",
     lambda seen: seen.input_ns // 1000),
    ("nv_inference_compute_infer_duration_us", "counter",
     "Microseconds of running the model; each request counts its run's",
     lambda seen: seen.infer_ns // 1000),
    ("nv_inference_compute_output_duration_us", "counter",
     "Microseconds of putting outputs away; each request counts its run's",
     lambda seen: seen.output_ns // 1000),
    ("nv_inference_pending_request_count", "gauge", "Requests that wait to be sent to a worker",
     lambda seen: seen.waiting),
)  # fmt: skip

_OWN: tuple[tuple[str, Kind, str, Callable[[VersionStatistics], float]], ...] = (
    ("serving_runs_failed_total", "counter",
     "Runs without results: the model refused, nobody waited any more, or the worker was lost",
     lambda seen: seen.failed_runs),
    ("serving_requests_unfinished", "gauge", "Requests that were taken in and are not answered",
     lambda seen: seen.unfinished),
    ("serving_rows_waiting", "gauge", "Rows that wait to be sent to a worker",
     lambda seen: seen.waiting_rows),
    ("serving_bytes_waiting", "gauge", "Input bytes of the requests that wait",
     lambda seen: seen.waiting_bytes),
)  # fmt: skip


def families(told: ServerStatistics, listed: Sequence[dict[str, Any]], ready: bool) -> list[Family]:
    """Return every metric; ``listed`` are the data plane's ``servables``.

    Pure, and for many servables long: not work for the event loop.
    """
    return [
        *_by_version(told.versions, _TRITON),
        _failures(told.versions),
        *_by_version(told.versions, _OWN),
        _unanswered(
            "serving_requests_failed_total",
            "Requests that were taken in and ended in an error, by the error's code",
            told.versions,
            lambda seen: seen.failures,
        ),
        _unanswered(
            "serving_requests_refused_total",
            "Requests that were not taken in, by the error's code",
            told.versions,
            lambda seen: seen.refusals,
        ),
        _request_times(told.versions),
        _run_sizes(told.versions),
        *stage_metrics.families(told.stages),
        *_workers(told.workers),
        *_server(told, listed, ready),
    ]


def _of(seen: VersionStatistics) -> Labels:
    return (("model", seen.servable), ("version", str(seen.version)))


def _by_version(
    versions: Sequence[VersionStatistics],
    table: Sequence[tuple[str, Kind, str, Callable[[VersionStatistics], float]]],
) -> Iterator[Family]:
    for name, kind, meaning, value in table:
        yield Family(name, kind, meaning, [Sample(_of(seen), value(seen)) for seen in versions])


def _failures(versions: Sequence[VersionStatistics]) -> Family:
    return Family(
        "nv_inference_request_failure",
        "counter",
        "Requests that failed, by Triton's word for the reason",
        [
            Sample((*_of(seen), ("reason", cause)), count)
            for seen in versions
            for cause, count in v2_statistics.failures(seen).items()
        ],
    )


def _unanswered(
    name: str,
    meaning: str,
    versions: Sequence[VersionStatistics],
    which: Callable[[VersionStatistics], tuple[Unanswered, ...]],
) -> Family:
    samples = []
    for seen in versions:
        by_code: Counter[str] = Counter()
        for unanswered in which(seen):
            by_code[unanswered.code] += unanswered.count
        samples += [Sample((*_of(seen), ("reason", c)), n) for c, n in sorted(by_code.items())]
    return Family(name, "counter", meaning, samples)


def _request_times(versions: Sequence[VersionStatistics]) -> Family:
    return Family(
        "serving_request_duration_seconds",
        "histogram",
        "From taking a request in to its answer, answered requests",
        [
            sample
            for seen in versions
            for sample in histogram(
                _of(seen), LATENCY_BOUNDS_S, seen.latencies, seen.success_ns / 1e9
            )
        ],
    )


def _run_sizes(versions: Sequence[VersionStatistics]) -> Family:
    samples = []
    for seen in versions:
        counts = [0] * (len(_ROWS_BOUNDS) + 1)
        for runs in seen.runs:
            counts[bisect_left(_ROWS_BOUNDS, runs.rows)] += runs.count
        rows = sum(runs.rows * runs.count for runs in seen.runs)
        samples += histogram(_of(seen), _ROWS_BOUNDS, counts, rows)
    return Family("serving_run_rows", "histogram", "Rows in a run, filler among them", samples)


def _workers(workers: Sequence[WorkerStatistics]) -> Iterator[Family]:
    def each(value: Callable[[WorkerStatistics], float]) -> list[Sample]:
        return [Sample((("worker", worker.name),), value(worker)) for worker in workers]

    up = [(worker.name, worker.usage) for worker in workers if worker.usage is not None]
    yield Family(
        "serving_worker_up", "gauge", "1 while the worker's process runs, else 0",
        each(lambda worker: worker.usage is not None),
    )  # fmt: skip
    yield Family(
        "serving_worker_restarts_total", "counter", "Times that the worker was started again",
        each(lambda worker: worker.restarts),
    )  # fmt: skip
    devices = [worker for worker in workers if worker.device]
    yield Family(
        "serving_worker_device_info", "gauge",
        "What the worker computes on, and why that cannot be used if it cannot; always 1",
        [
            Sample((("worker", w.name), ("device", w.device), ("down", w.down)), 1)
            for w in devices
        ],
    )  # fmt: skip
    yield Family(
        "serving_worker_runs_total", "counter", "Runs that were sent to the worker",
        [Sample((("worker", worker.name),), worker.runs) for worker in devices],
    )  # fmt: skip
    yield Family(
        "serving_worker_rows_total", "counter", "Rows in them, filler among them",
        [Sample((("worker", worker.name),), worker.rows) for worker in devices],
    )  # fmt: skip
    yield Family(
        "serving_worker_cpu_seconds_total", "counter",
        "Processor time of the worker's process; begins anew with each",
        [Sample((("worker", name),), usage.cpu_s) for name, usage in up],
    )  # fmt: skip
    yield Family(
        "serving_worker_resident_memory_bytes", "gauge", "Memory of the worker's process",
        [Sample((("worker", name),), usage.rss_bytes) for name, usage in up],
    )  # fmt: skip


def _server(
    told: ServerStatistics, listed: Sequence[dict[str, Any]], ready: bool
) -> Iterator[Family]:
    def one(name: str, kind: Kind, meaning: str, value: float) -> Family:
        return Family(name, kind, meaning, [Sample((), value)])

    yield Family(
        "serving_errors_total", "counter",
        "Calls of any kind that a front end answered with an error, by the error's code",
        [
            Sample((("front_end", seen.front_end), ("reason", seen.code)), seen.count)
            for seen in told.errors
        ],
    )  # fmt: skip
    states = Counter(str(row["state"]) for row in listed)
    memory, process = told.memory, told.process
    yield Family(
        "serving_versions", "gauge", "Versions by state; FAILED: also servables without one",
        [Sample((("state", state),), states[state]) for state in _STATES],
    )  # fmt: skip
    yield one("serving_ready", "gauge", "1 while the server takes requests, else 0", ready)
    yield one(
        "serving_tensor_memory_lent_bytes", "gauge",
        "Shared memory that requests and runs hold", memory.lent_bytes,
    )  # fmt: skip
    yield one(
        "serving_tensor_memory_held_bytes", "gauge",
        "Shared memory for tensors in all, what is kept for the next requests too",
        memory.held_bytes,
    )  # fmt: skip
    yield one(
        "serving_tensor_memory_budget_bytes", "gauge",
        "The most shared memory that tensors may take (--memory-mb)", memory.budget_bytes,
    )  # fmt: skip
    yield one("process_cpu_seconds_total", "counter", "Processor time of the master", process.cpu_s)
    yield one("process_resident_memory_bytes", "gauge", "Memory of the master", process.rss_bytes)
    yield one(
        "process_start_time_seconds", "gauge", "When the master started, Unix time",
        process.started_s,
    )  # fmt: skip
    build = (("version", __version__), ("python", platform.python_version()))
    yield Family("serving_build_info", "gauge", "What runs; always 1", [Sample(build, 1)])
