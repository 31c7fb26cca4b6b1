"""Statistics of servers that never ran, for tests of what tells them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from serving.statistics import (
    LATENCY_BOUNDS_S,
    ErrorAnswers,
    ProcessUsage,
    Runs,
    ServerStatistics,
    TensorMemory,
    Unanswered,
    VersionStatistics,
    WorkerStatistics,
)

MIB = 1 << 20


def latencies(**by_bucket: int) -> tuple[int, ...]:
    """Return counts by bucket; ``latencies(b3=2)``: two requests in the fourth bucket."""
    counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
    for bucket, count in by_bucket.items():
        counts[int(bucket[1:])] = count
    return tuple(counts)


IDLE = VersionStatistics(
    servable="idle",
    version=1,
    rows=0,
    success_ns=0,
    queue_ns=0,
    input_ns=0,
    infer_ns=0,
    output_ns=0,
    latencies=latencies(),
    runs=(),
    failed_runs=0,
    last_run_ms=0,
    failures=(),
    fail_ns=0,
    refusals=(),
    unfinished=0,
    waiting=0,
    waiting_rows=0,
    waiting_bytes=0,
)

BUSY = replace(
    IDLE,
    servable="busy",
    version=2,
    rows=11,
    success_ns=9_000_000,
    queue_ns=4_001_999,
    input_ns=30_000,
    infer_ns=3_000_000,
    output_ns=60_000,
    latencies=latencies(b3=4, b17=1),
    runs=(Runs(1, 3, 9_000, 1_500_000, 12_000), Runs(8, 1, 7_000, 500_000, 16_000)),
    failed_runs=2,
    last_run_ms=1_700_000_000_123,
    failures=(
        Unanswered("cancelled", "cancelled", 1),
        Unanswered("deadline_exceeded", "deadline_exceeded", 2),
        Unanswered("execution_failed", "execution_failed", 3),
        Unanswered("internal", "internal", 4),
        Unanswered("unavailable", "unloaded", 5),
        Unanswered("unavailable", "worker_lost", 6),
    ),
    fail_ns=5_000,
    refusals=(
        Unanswered("invalid_request", "wrong_shape", 100),
        Unanswered("overloaded", "queue_full", 20),
    ),
    unfinished=7,
    waiting=3,
    waiting_rows=5,
    waiting_bytes=4096,
)


def server(*versions: VersionStatistics, **changes: Any) -> ServerStatistics:
    """Return a server with these versions, a worker that runs and two that are gone."""
    told = ServerStatistics(
        versions=versions,
        errors=(ErrorAnswers("grpc", "cancelled", 1), ErrorAnswers("rest", "wrong_dtype", 9)),
        workers=(
            WorkerStatistics("cpu-0", 0, ProcessUsage(2.5, 50 * MIB, 1_700_000_000.0)),
            WorkerStatistics("cpu-1", 4, None),
            WorkerStatistics("gpu-0", 5, None, "gpu:0", "tensorrt", 'it "fell" off', 11, 44),
        ),
        memory=TensorMemory(3 * MIB, 8 * MIB, 2048 * MIB),
        process=ProcessUsage(1.25, 80 * MIB, 1_600_000_000.5),
    )
    return replace(told, **changes)
