"""Latency at half load, held against an ideal queue that is sent the same requests.

    python -m benchmarks.half_load                        # 3 runs of 30 s, about 2 minutes
    python -m benchmarks.half_load --runs 1 --seconds 5 --only resnet50

Requests come as a Poisson process does, whoever has been answered or not (an open loop), at half
the rate that the bare engine reaches with the server's number of processes, one row at a time.
*Ideal* is M/D/c: c servers that take the bare engine's time for a row, every time, and nothing
else, computed for the same arrivals. The load generator shares the cores with the server.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import shlex
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import uvloop

from benchmarks import engine, processes
from benchmarks.__main__ import arguments_of_cache, names
from benchmarks.ideal_queue import percentile, response_times
from benchmarks.processes import NotStarted, Running
from benchmarks.wires import WrongAnswer, check, http_request, wires
from benchmarks.workloads import WORKLOADS, Case, prepare
from serving.bench.arrivals import poisson
from serving.bench.check import Check
from serving.bench.connection import Answer, HttpConnection
from serving.bench.load import Request, Run
from serving.bench.record import Record

AIM = 1.25
MODELS = ("transformer", "resnet50")
"""Those whose limit is the engine; half of what the engine does of a tiny one no front end does."""
_WIRE = "v2-binary"
_HOST = "127.0.0.1"
_WARM_UP_S = 2.0
_MOST_LATE_S = 1.0
_PERCENTS = (50.0, 90.0, 99.0)


@dataclass(frozen=True)
class Half:
    """One run: percentiles in milliseconds, measured and ideal, by percent."""

    model: str
    workers: int
    service_ms: float
    rate: float
    answers: int
    measured: dict[float, float]
    ideal: dict[float, float]

    def ratio(self, percent: float) -> float:
        """Measured over ideal."""
        return self.measured[percent] / self.ideal[percent]


def ideal(rate: float, seconds: float, service_s: float, servers: int) -> dict[float, float]:
    """Return the ideal's percentiles, in ms, of the arrivals that ``serving bench`` would send."""
    sent = list(poisson(rate, _WARM_UP_S + seconds))
    there = response_times(sent, service_s, servers)
    # As in the measurement, what counts is what is answered after the warm-up.
    counted = [s for at, s in zip(sent, there, strict=True) if at + s >= _WARM_UP_S]
    return {p: percentile(counted, p) * 1e3 for p in _PERCENTS}


async def _measure(case: Case, running: Running, rate: float, seconds: float) -> Record:
    (wire,) = [wire for wire in wires(case) if wire.name == _WIRE]
    request = http_request(wire, running.rest_port)

    def connect() -> HttpConnection:
        return HttpConnection(_HOST, running.rest_port)

    first, heard = connect(), asyncio.get_running_loop().create_future()
    first.send(request, heard.set_result)
    answer: Answer = await heard
    first.close()
    right = Check(_WIRE)
    right.learn(0, answer.body, answer.headers)
    run = Run(connect, [Request(0, request, 1)], right)
    try:
        return await run.open(rate, _WARM_UP_S, seconds)
    finally:
        run.close()


def measure(case: Case, command: list[str], runs: int, seconds: float) -> list[Half]:
    """Measure one model so often; answers are checked. Raises WrongAnswer."""
    workers = case.workload.workers
    found = []
    for _ in range(runs):
        # Beside each run, because the machine's speed drifts.
        alone = engine.measure(case, workers, min(seconds, 3.0), batches=(1,)).rates[1]
        service_s = workers / alone
        rate = alone / 2
        with processes.server(case, command) as running:
            (wire,) = [wire for wire in wires(case) if wire.name == _WIRE]
            check(wire, case, _HOST, running.rest_port)
            record = uvloop.run(_measure(case, running, rate, seconds))
        # A few are under way when the time is up. Many: the server does not keep up, and what it
        # has answered in time says nothing.
        behind = record.late > _MOST_LATE_S * rate
        if record.wrong or record.errors or behind:
            told = f"{record.wrong} wrong, {dict(record.errors)}, {record.late} not answered"
            raise WrongAnswer(f"{case.name} at {rate:.1f} a second: {told}")
        measured = {p: record.percentile_ms(p) for p in _PERCENTS}
        half = Half(
            case.name, workers, service_s * 1e3, rate, record.answers, measured,
            ideal(rate, seconds, service_s, workers),
        )  # fmt: skip
        print(f"{case.name}: p99 {half.ratio(99.0):.2f} of the ideal", file=sys.stderr, flush=True)
        found.append(half)
    return found


def table(found: list[list[Half]]) -> str:
    """Return medians as Markdown; ratios are taken run by run."""
    lines = [
        "| model | workers | ms a row | requests/s | answers | p50 ms, ideal | p90, ideal "
        "| p99, ideal | p99 / ideal (all runs) |",
        "|" + " --- |" * 9,
    ]
    for halves in found:
        cells = []
        for p in _PERCENTS:
            measured = statistics.median(h.measured[p] for h in halves)
            cells.append(f"{measured:.3g}, {statistics.median(h.ideal[p] for h in halves):.3g}")
        ratios = [half.ratio(99.0) for half in halves]
        runs = "/".join(f"{ratio:.2f}" for ratio in ratios)
        one = halves[0]
        lines.append(
            f"| {one.model} | {one.workers} "
            f"| {statistics.median(h.service_ms for h in halves):.3g} "
            f"| {statistics.median(h.rate for h in halves):,.1f} "
            f"| {sum(h.answers for h in halves):,} | {' | '.join(cells)} "
            f"| **{statistics.median(ratios):.2f}** ({runs}) |"
        )
    return "\n".join([*lines, "", f"Aim: {AIM} or less for the transformer."])


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 when an answer was wrong or late."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.half_load", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=30, help="length of a run (default 30)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--only", type=lambda t: names(MODELS, t), default=frozenset(MODELS[:1]))
    parser.add_argument("--json", type=Path, help="write every figure into this file")
    arguments_of_cache(parser)
    given = parser.parse_args(arguments)
    found: list[list[Half]] = []
    try:
        for work in WORKLOADS:
            if work.name in given.only:
                case = prepare(work, given.cache)
                found.append(measure(case, shlex.split(given.server), given.runs, given.seconds))
    except (NotStarted, WrongAnswer) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(found))
    if given.json is not None:
        plain = [dataclasses.asdict(half) for halves in found for half in halves]
        given.json.write_text(json.dumps(plain, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
