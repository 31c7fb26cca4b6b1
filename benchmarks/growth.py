"""How cost grows: with the rows of a request, the number of servables, and of connections.

    python -m benchmarks.growth                           # about 4 minutes
    python -m benchmarks.growth --seconds 1 --runs 1 --only connections

The tiny model (16 -> 32 -> 4) over V2 with binary tensors, one worker, ``wrk`` on the same cores.
One thing grows at a time; the others stay at one row, one servable and 64 connections. Of many
servables either one is asked, or all in turns. CPU is the master's alone, for each request, and
for each row.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import processes
from benchmarks.__main__ import arguments_of_cache, names
from benchmarks.load import LoadFailed, MissingGenerator, drive, require_generators
from benchmarks.processes import NotStarted, Running
from benchmarks.wires import WrongAnswer, check, wires
from benchmarks.workloads import WORKLOADS, Case, prepare

ROWS = (1, 2, 4, 8, 16, 32, 64)
SERVABLES = (1, 10, 100)
CONNECTIONS = (1, 8, 64, 256, 1000)
KINDS = ("rows", "servables", "connections")
_HOST = "127.0.0.1"
_WIRE = "v2-binary"
_CLIENTS = 64


@dataclass(frozen=True)
class Point:
    """One setting: medians of its runs. ``cpu_us`` is the master's for a request."""

    what: str
    count: int
    rows: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    master_mb: float
    errors: int
    rates: tuple[float, ...]


def several_rows(case: Case, rows: int) -> Case:
    """Return the case with a request of so many rows."""
    row, expected = np.repeat(case.row, rows, axis=0), np.repeat(case.expected, rows, axis=0)
    return dataclasses.replace(case, row=row, expected=expected)


def many_servables(case: Case, count: int, folder: Path) -> tuple[Case, list[str]]:
    """Lay out so many servables of the same model; return the case, and the path of each."""
    names_ = [f"{case.name}-{number}" for number in range(count)]
    for name in names_:
        home = folder / name / "1"
        home.mkdir(parents=True)
        shutil.copyfile(case.model, home / "model.onnx")
    workload = dataclasses.replace(case.workload, name=names_[0])
    first = dataclasses.replace(case, workload=workload, model_dir=folder)
    return first, [f"/v2/models/{name}/infer" for name in names_]


def point(
    case: Case,
    running: Running,
    what: str,
    count: int,
    given: argparse.Namespace,
    *,
    connections: int = _CLIENTS,
    paths: Sequence[str] = (),
) -> Point:
    """Measure one setting ``given.runs`` times; the answer is checked before each."""
    (wire,) = [wire for wire in wires(case) if wire.name == _WIRE]
    samples, cpu_us = [], []
    for _ in range(given.runs):
        size = check(wire, case, _HOST, running.rest_port)
        before = running.master_cpu_s()
        sample = drive(wire, running.rest_port, connections, 1, given.seconds, size, paths)
        used_s = running.master_cpu_s() - before
        cpu_us.append(used_s / (sample.requests + sample.warm_up_requests) * 1e6)
        samples.append(sample)
    master_mb = next(mb for role, _, mb in running.memory() if role == "master")
    found = Point(
        what,
        count,
        len(case.row),
        statistics.median(s.rate for s in samples),
        statistics.median(s.p50_ms for s in samples),
        statistics.median(s.p99_ms for s in samples),
        statistics.median(cpu_us),
        master_mb,
        sum(s.errors for s in samples),
        tuple(s.rate for s in samples),
    )
    print(f"  {what} {count}: {found.rate:,.0f}/s", file=sys.stderr, flush=True)
    return found


def measure(case: Case, given: argparse.Namespace, found: list[Point]) -> None:
    """Measure all that was asked for, into ``found``."""
    command = shlex.split(given.server)
    if {"rows", "connections"} & given.only:
        with processes.server(case, command) as running:
            if "rows" in given.only:
                for rows in ROWS:
                    found.append(point(several_rows(case, rows), running, "rows", rows, given))
            if "connections" in given.only:
                for count in CONNECTIONS:
                    found.append(
                        point(case, running, "connections", count, given, connections=count)
                    )
    if "servables" in given.only:
        for count in SERVABLES:
            with tempfile.TemporaryDirectory() as folder:
                first, paths = many_servables(case, count, Path(folder))
                with processes.server(first, command) as running:
                    found.append(point(first, running, "servables, one asked", count, given))
                    if count > 1:
                        what = "servables, all in turns"
                        found.append(point(first, running, what, count, given, paths=paths))


def table(found: Sequence[Point]) -> str:
    """Return the points as Markdown, with what each costs beside the first of its kind."""
    lines = [
        "| what | number | requests/s (all runs) | rows/s | p50 ms | p99 ms | master CPU us/req "
        "| us/row | to the first | master PSS, MiB | errors |",
        "|" + " --- |" * 11,
    ]
    firsts: dict[str, Point] = {}
    for p in found:
        first = firsts.setdefault(p.what.partition(",")[0], p)
        runs = "/".join(f"{rate:,.0f}" for rate in p.rates)
        lines.append(
            f"| {p.what} | {p.count} | **{p.rate:,.0f}** ({runs}) | {p.rate * p.rows:,.0f} "
            f"| {p.p50_ms:.3g} | {p.p99_ms:.3g} | **{p.cpu_us:.1f}** | {p.cpu_us / p.rows:.1f} "
            f"| {p.cpu_us / first.cpu_us:.2f} | {p.master_mb:.0f} | {p.errors} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 when a request failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=3, help="length of a run (default 3)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--only", type=lambda t: names(KINDS, t), default=frozenset(KINDS))
    parser.add_argument("--json", type=Path, help="write every figure into this file")
    arguments_of_cache(parser)
    given = parser.parse_args(arguments)
    found: list[Point] = []
    try:
        require_generators()
        measure(prepare(WORKLOADS[0], given.cache), given, found)
    except (MissingGenerator, NotStarted, LoadFailed, WrongAnswer) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        if found:
            print(table(found))
    if given.json is not None:
        given.json.write_text(json.dumps([dataclasses.asdict(p) for p in found], indent=1) + "\n")
    return int(any(p.errors for p in found))


if __name__ == "__main__":
    sys.exit(main())
