"""Ask as MindSpore Serving's clients do: this server, an echo, and MindSpore Serving itself.

    python -m benchmarks.mindspore_serving                      # this server and the echoes
    python -m benchmarks.mindspore_serving --real python3.9     # and MindSpore Serving, in turns

A sum of two [2,2] tensors and a LeNet, over its gRPC (MSService/Predict) and its REST
(POST /model/...), by 1, 8 and 32 clients. The echoes return the very bytes that were sent. With
``--real``, the same repository is served by MindSpore Serving 2.0.2 on a CPU, installed into an
environment that the given Python 3.9 makes (once; in the cache folder; needs a package index).
Every answer to a first request is compared with the right one, for each server, before each row.
Needs ``wrk`` and ``h2load``.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import processes
from benchmarks.__main__ import argument_of_cache
from benchmarks.load import LoadFailed, MissingGenerator, require_generators
from benchmarks.measure import Plan, Row, point
from benchmarks.mindspore_jobs import Job, jobs
from benchmarks.peers.environment import NotInstalled
from benchmarks.peers.mindspore import NAME, install, mindspore_running
from benchmarks.processes import NotStarted, Running, echo
from benchmarks.wires import Wire, WrongAnswer

CLIENTS = (1, 8, 32)
AIM = 1.5
ELSEWHERE: Mapping[tuple[str, str], tuple[int, ...]] = {
    ("add", "grpc"): (1688, 2721, 2842),
    ("add", "rest-json"): (1847, 3060, 3180),
    ("lenet", "grpc"): (1229, 2378, 3286),
    ("lenet", "rest-json"): (379, 664, 884),
}
"""Requests a second of MindSpore Serving 2.0.2, measured on another machine with its own Python
client in one process, at ``CLIENTS``."""
_ECHO = "echo"


@dataclass(frozen=True)
class Point:
    """One request at one number of clients: the runs of each server, in the same order.

    ``front_end`` is what of this server was asked.
    """

    job: str
    wire: str
    front_end: str
    clients: int
    ours: tuple[Row, ...]
    echo: tuple[Row, ...]
    real: tuple[Row, ...]

    @property
    def errors(self) -> int:
        """Failed requests of this server."""
        return sum(row.errors for row in self.ours)

    def line(self) -> str:
        """Return the point as a line of the table."""
        ours = _median(self.ours)
        there = ELSEWHERE[self.job, self.wire][CLIENTS.index(self.clients)]
        real = f"{_median(self.real):,.0f}" if self.real else ""
        cells = [self.job, self.front_end, str(self.clients), f"**{ours:,.0f}**"]
        cells += [f"{statistics.median(row.p99_ms for row in self.ours):.2f}"]
        cells += [_cpu(self.ours)]
        cells += [f"{_median(self.echo):,.0f}", f"{_ratio(self.ours, self.echo):.2f}"]
        cells += [real, f"**{_ratio(self.ours, self.real):.2f}**" if self.real else ""]
        cells += [_cpu(self.real) if self.real else ""]
        cells += [f"{there:,}", f"{ours / there:.2f}", str(self.errors)]
        return "| " + " | ".join(cells) + " |"


def _cpu(rows: Sequence[Row]) -> str:
    return f"{statistics.median(row.cpu_us for row in rows):.0f}"


def _median(rows: Sequence[Row]) -> float:
    return statistics.median(row.rate for row in rows)


def _ratio(ours: Sequence[Row], others: Sequence[Row]) -> float:
    """Return the median of the ratios of runs that followed each other."""
    return statistics.median(
        mine.rate / other.rate for mine, other in zip(ours, others, strict=True)
    )


def _points(
    job: Job, wire: Wire, clients: int, targets: Mapping[str, Running], plan: Plan
) -> list[Point]:
    """Measure all that speak this protocol in turns; a point for each that is of this project."""
    once = Plan(plan.seconds, 1, None)
    rows: dict[str, list[Row]] = {name: [] for name in targets}
    for _ in range(plan.runs):
        for name, running in targets.items():
            rows[name].append(point(job, wire, running, once, clients, 1, echo=name == _ECHO))
    echoes, real = tuple(rows[_ECHO]), tuple(rows.get(NAME, ()))
    return [
        Point(job.name, wire.name, front_end, clients, tuple(found), echoes, real)
        for front_end, found in rows.items()
        if front_end not in (_ECHO, NAME)
    ]


def measure(repository: Path, work: Sequence[Job], plan: Plan, home: Path | None) -> list[Point]:
    """Measure all of it; ``home`` is where MindSpore Serving is installed, if it is wanted."""
    found = []
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(processes.serving(repository))
        grpcio = stack.enter_context(processes.serving(repository, "--grpc-engine", "grpcio"))
        real = {NAME: stack.enter_context(mindspore_running(home, repository))} if home else {}
        targets = (
            {"gRPC": ours, "gRPC, grpcio": grpcio, _ECHO: stack.enter_context(echo("grpc"))},
            {"REST": ours, _ECHO: stack.enter_context(echo("asgi"))},
        )
        for index, asked in enumerate(targets):
            for job in work:
                for clients in CLIENTS:
                    wire = job.wires()[index]
                    for measured in _points(job, wire, clients, {**asked, **real}, plan):
                        found.append(measured)
                        _say(measured.line())
    return found


def report(points: Sequence[Point], plan: Plan, *, real: bool) -> str:
    """Return the table and what must be known to read it."""
    heads = "model | front end | clients | req/s | p99 ms | CPU us/req | echo | share of echo"
    heads += " | MindSpore Serving here | ratio | its CPU us/req | elsewhere | ratio | errors"
    beside = (
        f"*MindSpore Serving here*: {NAME} on this machine, the same repository, load generator "
        "and clients, in turns, one worker for each servable. "
        if real
        else ""
    )
    return "\n".join(
        [
            f"| {heads} |",
            "|" + " --- |" * (heads.count("|") + 1),
            *[p.line() for p in points],
            "",
            f"{plan.runs} x {plan.seconds:g} s a row, medians, load from h2load and wrk on the "
            "same cores. *grpcio*: --grpc-engine grpcio. *Echo*: the same bytes sent to grpc.aio "
            "or uvicorn that return them. "
            f"{beside}*Elsewhere*: {NAME} on another machine, under the load of its own Python "
            "client, which is slower than h2load and wrk and shared the cores: an order of "
            f"magnitude, no comparison. The aim is {AIM} times MindSpore Serving, or more.",
        ]
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Measure and print; 0 if every answer was right and no request failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mindspore_serving", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=2, help="length of a run (default 2)")
    parser.add_argument("--runs", type=int, default=1, help="runs of each (default 1)")
    parser.add_argument("--only", choices=[job.name for job in jobs()], help="one of the models")
    parser.add_argument("--real", metavar="PYTHON", help="a Python 3.9 to install it with")
    argument_of_cache(parser)
    given = parser.parse_args()
    plan = Plan(given.seconds, given.runs, None)
    work = [job for job in jobs() if given.only in (None, job.name)]
    try:
        require_generators()
        home = install(given.cache.resolve(), given.real) if given.real else None
        with tempfile.TemporaryDirectory() as folder:
            for job in work:
                job.lay_out(Path(folder))
            points = measure(Path(folder), work, plan, home)
    except (MissingGenerator, NotInstalled, NotStarted, LoadFailed, WrongAnswer) as error:
        _say(f"error: {error}")
        return 1
    print(report(points, plan, real=home is not None))
    return 1 if any(p.errors for p in points) else 0


if __name__ == "__main__":
    sys.exit(main())
