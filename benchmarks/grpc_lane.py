"""Both gRPC engines of this server and Triton, asked the same by the same, in turns.

    python -m benchmarks.grpc_lane                    # about 5 minutes
    python -m benchmarks.grpc_lane --runs 1 --seconds 1 --only tiny
    python -m benchmarks.grpc_lane --no-triton        # without what pip must install for it

V2 ModelInfer from ``h2load``: the tiny model at 8 connections with 8 calls each, 8 with one, one
with one, and one with 64; LeNet (4 KB); and a model that answers its input of 602 KB. Answers are
compared with the engine's before each run. Ratios are to Triton (its Python backend, the same
engine) in the same turn.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import processes
from benchmarks.__main__ import arguments_of_cache, names
from benchmarks.load import LoadFailed, MissingGenerator, require_generators
from benchmarks.measure import Plan, Row, point
from benchmarks.peers.environment import NotInstalled, environment
from benchmarks.peers.peer import PEERS
from benchmarks.peers.run import peer_running
from benchmarks.processes import NotStarted, Running
from benchmarks.shared_memory import workload as identity
from benchmarks.wires import WrongAnswer, wires
from benchmarks.workloads import WORKLOADS, Case, Workload, prepare

ENGINES = ("lane", "grpcio")
TRITON = "triton"


def works() -> tuple[Workload, ...]:
    """Return the models, each with the concurrency that it is asked at."""
    known = {work.name: work for work in WORKLOADS}
    return (
        replace(known["tiny"], grpc=((8, 8), (8, 1), (1, 1), (1, 64))),
        replace(known["lenet"], grpc=((8, 8), (1, 1))),
        replace(identity(), grpc=((8, 1), (1, 1))),
    )


@contextlib.contextmanager
def servers(
    case: Case, command: Sequence[str], triton: Path | None
) -> Iterator[dict[str, Running]]:
    """Run a server for each engine, and Triton where its environment is given."""
    with contextlib.ExitStack() as stack:
        found: dict[str, Running] = {}
        for engine in ENGINES:
            ours = processes.server(case, list(command), "--grpc-engine", engine)
            found[engine] = stack.enter_context(ours)
        if triton is not None:
            peer = next(peer for peer in PEERS if peer.name == TRITON)
            found[TRITON] = stack.enter_context(peer_running(peer, case, triton, "grpc", 1))
        yield found


def measure(case: Case, running: Mapping[str, Running], plan: Plan) -> list[list[str]]:
    """Measure all points in turns; return the rows of the table."""
    (wire,) = [wire for wire in wires(case) if wire.grpc]
    once = replace(plan, runs=1)
    table = []
    for connections, streams in case.workload.grpc:
        turns = []
        for _ in range(plan.runs):
            turn = {
                name: point(case, wire, server, once, connections, streams, False)
                for name, server in running.items()
            }
            turns.append(turn)
            told = ", ".join(f"{name} {row.rate:,.0f}" for name, row in turn.items())
            print(f"{case.name} {connections}x{streams}: {told}", file=sys.stderr, flush=True)
        what = [case.name, f"{connections} x {streams}"]
        table += [[*what, *_cells(name, turns)] for name in running]
    return table


def _cells(name: str, turns: Sequence[Mapping[str, Row]]) -> list[str]:
    rows = [turn[name] for turn in turns]
    ratio = "-"
    if TRITON in turns[0]:
        ratio = f"**{statistics.median(t[name].rate / t[TRITON].rate for t in turns):.2f}**"
    return [
        name,
        f"{statistics.median(row.rate for row in rows):,.0f}",
        ratio,
        f"{statistics.median(row.p50_ms for row in rows):.3f}",
        f"{statistics.median(row.p99_ms for row in rows):.2f}",
        f"{statistics.median(row.cpu_us for row in rows):,.0f}",
        str(sum(row.errors for row in rows)),
        f"{statistics.median(row.other_cores for row in rows):.2f}",
    ]


def report(table: Sequence[Sequence[str]], plan: Plan) -> str:
    """Return the table as Markdown."""
    heads = (
        "model", "connections x calls", "server", "calls/s", "to Triton", "p50 ms", "p99 ms",
        "CPU us a call", "errors", "other load",
    )  # fmt: skip
    lines = [
        f"Medians of {plan.runs} runs of {plan.seconds:g} s, in turns; one worker each. *CPU* is "
        "that of all processes of a server. *Other load* is what the rest of the machine did, in "
        "cores.",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + " --- |" * len(heads),
    ]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in table)]) + "\n"


def main() -> int:
    """Measure and print; 0 if every answer was right."""
    known = works()
    every = tuple(work.name for work in known)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grpc_lane", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=2, help="length of a run (default 2)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--only", type=lambda t: names(every, t), default=frozenset(every))
    parser.add_argument("--no-triton", action="store_true", help="leave Triton out")
    arguments_of_cache(parser)
    asked = parser.parse_args()
    plan = Plan(asked.seconds, asked.runs, shlex.split(asked.server))
    assert plan.command is not None
    table: list[list[str]] = []
    try:
        require_generators()
        peer = next(peer for peer in PEERS if peer.name == TRITON)
        home = None if asked.no_triton else environment(asked.cache, peer.name, peer.packages)
        for work in known:
            if work.name in asked.only:
                case = prepare(work, asked.cache)
                with servers(case, plan.command, home) as running:
                    table += measure(case, running, plan)
    except (MissingGenerator, NotInstalled, NotStarted, LoadFailed, WrongAnswer) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        if table:
            print(report(table, plan))
    return int(any(row[8] != "0" for row in table))


if __name__ == "__main__":
    sys.exit(main())
