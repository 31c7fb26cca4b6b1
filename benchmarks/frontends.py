"""What several front-end processes bring: large bodies with one, two and more of them, in turns.

    python -m benchmarks.frontends                       # about 3 minutes
    python -m benchmarks.frontends --frontends 1,2,4 --connections 16
    python -m benchmarks.frontends --only grpc --runs 1 --seconds 1

The model answers its input of 602 KB, so that messages are all there is to do; they are V2's binary
form from ``wrk`` and V2 over gRPC from ``h2load``, both programs in C. Answers are compared with
the engine's before each run.

Requests a second say what this machine does with load generator, front ends, master and worker side
by side. The CPU time of each process for a request says what a larger one would do: the slowest of
them sets the pace as soon as each has a core, so *possible* is one second through the time of the
busiest process, and the load's is not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from benchmarks import processes
from benchmarks.__main__ import arguments_of_cache, names
from benchmarks.load import LoadFailed, MissingGenerator, drive, require_generators
from benchmarks.measure import HOST, Plan
from benchmarks.processes import NotStarted, Running
from benchmarks.shared_memory import workload as identity
from benchmarks.wires import Wire, WrongAnswer, check, wires
from benchmarks.workloads import Case, prepare

WIRES = ("v2-binary", "grpc")
_ROLES = {"serving.gateway": "front", "serving.worker": "worker"}


@dataclass(frozen=True)
class Turn:
    """One run: requests a second, and the CPU time for a request, in µs, of each process."""

    rate: float
    errors: int
    cpu_us: Mapping[str, float]

    @property
    def possible(self) -> float:
        """Requests a second if each process had a core for itself."""
        return 1e6 / max(self.cpu_us.values())


def cpu_s(running: Running) -> dict[str, float]:
    """Return the CPU seconds of each process so far: ``master``, ``front-PID``, ``worker-PID``."""
    found = {"master": running.master_cpu_s()}
    for process in psutil.Process(running.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            role = next((role for module, role in _ROLES.items() if module in line), None)
            if role is not None:
                times = process.cpu_times()
                found[f"{role}-{process.pid}"] = float(times.user + times.system)
    return found


def turn(wire: Wire, case: Case, running: Running, connections: int, seconds: float) -> Turn:
    """Measure once."""
    port = running.grpc_port if wire.grpc else running.rest_port
    answer_bytes = check(wire, case, HOST, port)
    before = cpu_s(running)
    sample = drive(wire, port, connections, 1, seconds, answer_bytes)
    after = cpu_s(running)
    answered = sample.requests + sample.warm_up_requests
    used = {name: (after[name] - before.get(name, 0.0)) / answered * 1e6 for name in after}
    return Turn(sample.rate, sample.errors, used)


def row(wire: str, count: int, turns: Sequence[Turn], first: Sequence[Turn]) -> list[str]:
    """Return a line of the table; ratios are to the first number of front ends, turn by turn."""

    def share(role: str, each: Turn) -> float:
        return max([us for name, us in each.cpu_us.items() if name.startswith(role)], default=0.0)

    def middle(role: str) -> str:
        return f"{statistics.median(share(role, each) for each in turns):,.0f}"

    pairs = list(zip(turns, first, strict=True))
    return [
        wire,
        str(count),
        f"{statistics.median(each.rate for each in turns):,.0f}",
        f"{statistics.median(mine.rate / other.rate for mine, other in pairs):.2f}",
        middle("master"),
        middle("front") if count > 1 else "-",
        middle("worker"),
        f"{statistics.median(each.possible for each in turns):,.0f}",
        f"{statistics.median(mine.possible / other.possible for mine, other in pairs):.2f}",
        str(sum(each.errors for each in turns)),
    ]


def measure(
    case: Case, chosen: frozenset[str], counts: Sequence[int], connections: int, plan: Plan
) -> list[list[str]]:
    """Measure all, in turns; return the rows of the table."""
    assert plan.command is not None
    table = []
    with contextlib.ExitStack() as stack:
        servers = {
            count: stack.enter_context(
                processes.server(case, list(plan.command), "--frontends", str(count))
            )
            for count in counts
        }
        for wire in wires(case):
            if wire.name not in chosen:
                continue
            turns: dict[int, list[Turn]] = {count: [] for count in counts}
            for _ in range(plan.runs):
                for count, running in servers.items():
                    turns[count].append(turn(wire, case, running, connections, plan.seconds))
                told = ", ".join(f"{n}: {each[-1].rate:,.0f}/s" for n, each in turns.items())
                print(f"{wire.name} {told}", file=sys.stderr, flush=True)
            table += [row(wire.name, n, turns[n], turns[counts[0]]) for n in counts]
    return table


def report(table: Sequence[Sequence[str]], plan: Plan, connections: int) -> str:
    """Return the table as Markdown."""
    heads = (
        "wire", "front ends", "requests/s", "ratio", "master µs", "front end µs", "worker µs",
        "possible/s", "ratio", "errors",
    )  # fmt: skip
    lines = [
        f"602 KB there and back, {connections} connections, medians of {plan.runs} runs of "
        f"{plan.seconds:g} s in turns. *µs* is CPU time for a request of the server (of all, "
        "whichever process carried it) in the busiest process of its kind; *possible* is what the "
        "busiest process of all allows.",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + " --- |" * len(heads),
    ]
    return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in table)]) + "\n"


def main() -> int:
    """Measure and print; 0 if every answer was right."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontends", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=5, help="length of a run (default 5)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--connections", type=int, default=8, help="of the load (default 8)")
    parser.add_argument("--frontends", default="1,2", help="numbers of processes (default 1,2)")
    parser.add_argument("--only", type=lambda t: names(WIRES, t), default=frozenset(WIRES))
    arguments_of_cache(parser)
    asked = parser.parse_args()
    plan = Plan(asked.seconds, asked.runs, shlex.split(asked.server))
    counts = [int(word) for word in asked.frontends.split(",")]
    try:
        require_generators()
        case = prepare(identity(), asked.cache)
        table = measure(case, asked.only, counts, asked.connections, plan)
    except (LoadFailed, MissingGenerator, NotStarted, WrongAnswer) as error:
        print(error, file=sys.stderr)
        return 1
    print(report(table, plan, asked.connections))
    return 0


if __name__ == "__main__":
    sys.exit(main())
