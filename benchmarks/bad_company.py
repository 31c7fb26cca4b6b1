"""A good gRPC client beside 24 bad ones: what it costs the good one.

    python -m benchmarks.bad_company                    # nine times 2 s of each
    python -m benchmarks.bad_company --grpc-engine grpcio

The good client sends ModelInfer of the tiny model at an even rate, up to 8 at once on one
connection (``h2load --rps``). The bad ones run in a process of their own, six of each kind: slow in
sending and taking; half-closed, with messages begun and never ended; cancelling what they have
just begun; flooding the server with frames that say nothing until it throws them out, and coming
back. In life they run on machines of their own; here they run only where nobody else wants a core
(``SCHED_IDLE``, and the lowest priority of their session), so that what is seen is what the server
lets them cost, not the cores that they take from it. What little they still take is seen by
sending them to another server beside: what the good client loses then is the machine's. Aim: a p99
of at most 1.5 times that of the good client alone, and no failed call. The cores that the server
uses are told as well, which other load on the machine does not hide.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.__main__ import argument_of_cache
from benchmarks.load import WARM_UP_S, Sample, drive_evenly, require_generators
from benchmarks.processes import Running, serving, tie
from benchmarks.wires import Wire, check, wires
from benchmarks.workloads import WORKLOADS, prepare
from tests.unit.frontends.grpc_lane.bad_company import company

HOST = "127.0.0.1"
AIM = 1.5
_BAD = "--bad"
_LOWEST = 19


@contextlib.contextmanager
def beside(port: int, wire: Wire, count: int) -> Iterator[None]:
    """Have the bad clients about until the block is left."""
    command = [sys.executable, "-m", "benchmarks.bad_company", _BAD, str(port), str(count)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, start_new_session=True, preexec_fn=tie()
    ) as process:
        assert process.stdin is not None
        process.stdin.write(wire.body)
        process.stdin.close()
        time.sleep(1.0)
        try:
            if process.poll() is not None:
                raise SystemExit(f"the bad clients ended: {process.returncode}")
            yield
            if process.poll() is not None:
                raise SystemExit(f"the bad clients ended: {process.returncode}")
        finally:
            process.send_signal(signal.SIGINT)


async def bad(port: int, count: int) -> None:
    """Be all the bad clients until SIGINT, with what is left of the machine."""
    _step_back()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, ended.set)
    async with company(port, sys.stdin.buffer.read(), count):
        await ended.wait()


def _step_back() -> None:
    """Let everybody else go first, also where Linux shares its cores out by session first."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    group = Path("/proc/self/autogroup")
    if group.exists():
        group.write_text(f"{_LOWEST}\n")


def scene(
    running: Running, other: Running, wire: Wire, size: int, given: argparse.Namespace
) -> tuple[float, float]:
    """Measure in turns and print; no call may fail.

    Returns the median p99 beside bad clients by that alone, and by that beside those of another
    server.
    """
    alone: list[Sample] = []
    together: list[Sample] = []
    elsewhere: list[Sample] = []
    cores: dict[str, list[float]] = {}

    def once(found: list[Sample], what: str) -> None:
        before = running.cpu_s()
        sample = drive_evenly(wire, running.grpc_port, 1, given.rate, given.seconds, size)
        used = (running.cpu_s() - before) / (given.seconds + WARM_UP_S)
        found.append(sample)
        cores.setdefault(what, []).append(used)
        print(
            f"{what:16} {sample.rate:7,.0f}/s  p50 {sample.p50_ms:6.2f} ms  "
            f"p99 {sample.p99_ms:6.2f} ms  failed {sample.errors}  server {used:.2f} cores",
            flush=True,
        )

    for _ in range(given.runs):
        once(alone, "alone")
        with beside(running.grpc_port, wire, given.count):
            once(together, f"beside {given.count} bad")
        with beside(other.grpc_port, wire, given.count):
            once(elsewhere, "those elsewhere")
    if any(sample.errors for sample in (*alone, *together, *elsewhere)):
        raise SystemExit("calls of the good client failed")
    for what, used in cores.items():
        print(f"the server with a good client {what}: {statistics.median(used):.2f} cores")
    p99 = [statistics.median(s.p99_ms for s in found) for found in (alone, together, elsewhere)]
    return p99[1] / p99[0], p99[1] / p99[2]


def main() -> int:
    """Run the scene; 0 when no call of the good client failed."""
    if sys.argv[1:2] == [_BAD]:
        asyncio.run(bad(int(sys.argv[2]), int(sys.argv[3])))
        return 0
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bad_company", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--grpc-engine", default="lane", choices=["lane", "grpcio"])
    parser.add_argument("--seconds", type=float, default=2, help="length of a run (default 2)")
    parser.add_argument("--runs", type=int, default=9, help="runs of each (default 9)")
    parser.add_argument("--rate", type=int, default=500, help="calls a second of the good client")
    parser.add_argument("--count", type=int, default=24, help="bad clients (default 24)")
    argument_of_cache(parser)
    given = parser.parse_args()
    require_generators()
    case = prepare(next(work for work in WORKLOADS if work.name == "tiny"), given.cache)
    (wire,) = [wire for wire in wires(case) if wire.grpc]
    engine = ("--grpc-engine", given.grpc_engine)
    with serving(case.model_dir, *engine) as running, serving(case.model_dir, *engine) as other:
        size = check(wire, case, HOST, running.grpc_port)
        by_alone, by_elsewhere = scene(running, other, wire, size, given)
    print(f"p99 beside / alone: {by_alone:.2f} (aim: {AIM} or less)")
    print(f"p99 beside / beside as many of another server: {by_elsewhere:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
