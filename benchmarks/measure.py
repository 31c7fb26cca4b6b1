"""Walks through one workload: engine, echoes, server; every rate a median of several runs."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from benchmarks import engine, processes
from benchmarks.load import Sample, drive
from benchmarks.processes import Running
from benchmarks.wires import Known, Wire, check, check_echo, wires
from benchmarks.workloads import Case

HOST = "127.0.0.1"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How long and how often; ``command`` starts the server, ``None`` measures the floors only."""

    seconds: float
    runs: int
    command: list[str] | None
    only_wires: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Row:
    """The median of one point: a wire format at one concurrency, on the server or on an echo.

    ``rates`` holds every run; ``cpu_us`` the CPU time of the whole process tree per answer;
    ``other_cores`` how many cores the rest of the machine kept busy meanwhile.
    """

    wire: str
    connections: int
    streams: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    requests: int
    errors: int
    other_cores: float
    rates: tuple[float, ...]


@dataclass
class Result:
    """Everything one workload showed."""

    name: str
    workers: int
    limit: engine.Limit
    echoes: list[Row] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    ready_s: float = 0.0
    first_answer_s: float = 0.0
    memory: list[tuple[str, int, float]] = field(default_factory=list)
    engine_mappings: list[str] = field(default_factory=list)


def measure(case: Case, plan: Plan, say: Say) -> Result:
    """Measure the engine, the echoes where they matter, and the server, one after the other."""
    work = case.workload
    say(f"{work.name}: engine alone, {work.workers} process(es)")
    limit = engine.measure(case, work.workers, min(plan.seconds, 2.0))
    say(f"  limit {limit.rate:,.0f} rows/s at batch {limit.batch}")
    result = Result(work.name, work.workers, limit)
    chosen = [w for w in wires(case) if not plan.only_wires or w.name in plan.only_wires]
    if work.floors:
        for kind in ("asgi", "grpc"):
            mine = [w for w in chosen if w.grpc == (kind == "grpc")]
            if mine:
                say(f"{work.name}: {kind} echo")
                with processes.echo(kind) as running:
                    result.echoes += _points(case, mine, running, plan, say, echo=True)
    if plan.command is not None:
        say(f"{work.name}: server, {work.workers} worker(s)")
        _measure_server(case, chosen, plan, result, say)
    return result


def _measure_server(case: Case, chosen: list[Wire], plan: Plan, result: Result, say: Say) -> None:
    assert plan.command is not None
    with processes.server(case, plan.command) as running:
        start = time.monotonic()
        first = chosen[0]
        check(first, case, HOST, _port(first, running))
        result.ready_s = running.ready_s
        result.first_answer_s = running.ready_s + time.monotonic() - start
        result.rows = _points(case, chosen, running, plan, say, echo=False)
        result.memory = running.memory()
        result.engine_mappings = running.engine_mappings()


def _port(wire: Wire, running: Running) -> int:
    return running.grpc_port if wire.grpc else running.rest_port


def _points(
    case: Case, chosen: list[Wire], running: Running, plan: Plan, say: Say, *, echo: bool
) -> list[Row]:
    rows = []
    for wire in chosen:
        work = case.workload
        points = work.grpc if wire.grpc else tuple((c, 1) for c in work.http)
        for connections, streams in points:
            row = point(case, wire, running, plan, connections, streams, echo)
            rows.append(row)
            say(
                f"  {wire.name:10} {connections:2}x{streams:<2} {row.rate:10,.1f}/s "
                f"p50 {row.p50_ms:8.3f} ms  p99 {row.p99_ms:8.3f} ms  errors {row.errors}"
            )
    return rows


def point(
    case: Known,
    wire: Wire,
    running: Running,
    plan: Plan,
    connections: int,
    streams: int,
    echo: bool,
) -> Row:
    """Measure one wire format at one concurrency, ``plan.runs`` times."""
    port = _port(wire, running)
    samples: list[Sample] = []
    cpu_s, answered = 0.0, 0
    others = []
    for _ in range(plan.runs):
        size = check_echo(wire, HOST, port) if echo else check(wire, case, HOST, port)
        before, start, busy, ours = running.cpu_s(), time.monotonic(), _busy_s(), _own_s()
        sample = drive(wire, port, connections, streams, plan.seconds, size)
        used = running.cpu_s() - before
        elsewhere = _busy_s() - busy - (_own_s() - ours) - used
        others.append(max(0.0, elsewhere / (time.monotonic() - start)))
        cpu_s += used
        answered += sample.requests + sample.warm_up_requests
        samples.append(sample)
    return Row(
        wire=wire.name,
        connections=connections,
        streams=streams,
        rate=statistics.median(s.rate for s in samples),
        p50_ms=statistics.median(s.p50_ms for s in samples),
        p99_ms=statistics.median(s.p99_ms for s in samples),
        cpu_us=cpu_s / answered * 1e6,
        requests=sum(s.requests for s in samples),
        errors=sum(s.errors for s in samples),
        other_cores=statistics.median(others),
        rates=tuple(s.rate for s in samples),
    )


def _busy_s() -> float:
    """CPU seconds the machine has spent so far, interrupts left out (they are mostly ours)."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.steal)


def _own_s() -> float:
    """CPU seconds of this process and of the load generators it has waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
