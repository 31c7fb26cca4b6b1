"""How long a server takes from its command to the first right answer, and the memory it has then.

    python -m benchmarks.cold_start                        # 5 rounds, all peers, about 4 minutes
    python -m benchmarks.cold_start --peers "" --rounds 3  # this server alone

Each server is started on the tiny model and asked for one row until the answer is right; the time
counts from before its process was made. This server is started twice a round: *first* with an empty
cache folder, so that the model is tried out in a process apart, and *again* with what that start
has kept. Peers keep nothing. Memory is PSS, summed over all processes of a server, 3 s after the
first answer, when helpers have left; for this server also after the first call of a route that
FastAPI answers, which is when FastAPI is imported.

Byte code is kept in the benchmarks' cache folder, for peers too: a server that is run from a
checkout would else be compiled at every start, and one that was installed never is. One start of
each that is not counted fills it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.__main__ import arguments_of_cache, names
from benchmarks.peers.environment import NotInstalled, environment
from benchmarks.peers.peer import PEERS, Peer, Start
from benchmarks.peers.run import Plan, launched
from benchmarks.processes import START_TIMEOUT_S, NotStarted, Running
from benchmarks.wires import Wire, WrongAnswer, check, wires
from benchmarks.workloads import WORKLOADS, Case, prepare

HOST = "127.0.0.1"
AIM_S, AIM_MB = 0.6, 110
_POLL_S = 0.003
_SETTLE_S = 3.0
_OURS = "this server"


@dataclass
class Seen:
    """Of one server: seconds to the first right answer, and PSS in MiB by role, of each start.

    ``probed`` is the whole PSS after a call that FastAPI answered; empty for peers.
    """

    name: str
    answer_s: list[float] = field(default_factory=list)
    memory: list[list[tuple[str, float]]] = field(default_factory=list)
    probed: list[float] = field(default_factory=list)

    @property
    def total_mb(self) -> float:
        """Median of the whole."""
        return statistics.median(sum(mb for _, mb in roles) for roles in self.memory)


def surroundings(cache: Path) -> dict[str, str]:
    """Return the environment that servers are started in: byte code is kept."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(cache / "bytecode")}


def our_plan(case: Case, command: list[str], cache_dir: Callable[[Path], Path]) -> Plan:
    """Return how this server is started; ``cache_dir`` makes its cache folder of its own folder."""

    def plan(folder: Path, rest: int, grpc: int) -> Start:
        full = [*command, "start", "--model-dir", str(case.model_dir), "--host", HOST]
        full += ["--rest-port", str(rest), "--grpc-port", str(grpc)]
        full += ["--cache-dir", str(cache_dir(folder))]
        return Start(full, {}, rest, grpc, "/v2/health/ready", Path.cwd())

    return plan


def peer_plan(peer: Peer, case: Case, home: Path, wire: str) -> Plan:
    """Return how a peer is started: for one client, so that it gathers nothing."""
    return lambda folder, rest, grpc: peer.start(case, home, folder, wire, 1, rest, grpc)


def start(case: Case, plan: Plan, wire: Wire, env: Mapping[str, str], seen: Seen | None) -> None:
    """Start once, and note what was seen unless it is not to count."""
    began = time.monotonic()
    with launched(plan, env) as (process, told, log):
        port = told.grpc_port if wire.grpc else told.rest_port
        try:
            _until_right(case, wire, port, process)
        except NotStarted as error:
            raise NotStarted(f"{error}:\n{log.read_text(errors='replace')[-2000:]}") from error
        took_s = time.monotonic() - began
        if seen is None:
            return
        time.sleep(_SETTLE_S)
        running = Running(process.pid, told.rest_port, told.grpc_port, took_s)
        seen.answer_s.append(took_s)
        seen.memory.append([(role, mb) for role, _, mb in running.memory()])
        if seen.name.startswith(_OURS):
            url = f"http://{HOST}:{told.rest_port}{told.ready}"
            urllib.request.urlopen(url, timeout=10).close()
            seen.probed.append(sum(mb for _, _, mb in running.memory()))


def _until_right(case: Case, wire: Wire, port: int, process: subprocess.Popen[bytes]) -> None:
    """Ask until the answer is right. Connecting comes first: it costs next to nothing."""
    limit = time.monotonic() + START_TIMEOUT_S
    said = "nobody listened"
    while time.monotonic() < limit and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
            try:
                check(wire, case, HOST, port)
                return
            except WrongAnswer as error:
                said = str(error)
        time.sleep(_POLL_S)
    raise NotStarted(f"no right answer; the last one: {said}")


def measure(
    case: Case, peers: list[Peer], homes: dict[str, Path], kept: Path, given: argparse.Namespace
) -> list[Seen]:
    """Start every server ``given.rounds`` times, in turns; ``kept`` holds this one's caches."""
    env, command = surroundings(given.cache), shlex.split(given.server)
    ours = next(w for w in wires(case) if w.name == "rest-json")
    first, again = Seen(f"{_OURS}, first"), Seen(f"{_OURS}, again")
    theirs = {peer.name: Seen(peer.name) for peer in peers}
    for number in range(given.rounds + 1):
        counts = number > 0
        for seen in (first, again):
            fresh = seen is first
            folder = kept / str(number)
            assert fresh != folder.exists(), "only the second start finds what the first has kept"
            plan = our_plan(case, command, lambda _own, at=folder: at)  # type: ignore[misc]
            start(case, plan, ours, env, seen if counts else None)
        for peer in peers:
            name = next(iter(peer.wires))
            wire = peer.wire(case, name)
            plan = peer_plan(peer, case, homes[peer.name], name)
            start(case, plan, wire, env, theirs[peer.name] if counts else None)
        print(f"round {number} of {given.rounds}", file=sys.stderr, flush=True)
    return [first, again, *theirs.values()]


def table(all_seen: list[Seen]) -> str:
    """Return medians as Markdown."""
    lines = [
        "| server | first right answer, s (all starts) | PSS, MiB | of which | "
        "PSS after a health probe |",
        "|" + " --- |" * 5,
    ]
    for seen in all_seen:
        runs = "/".join(f"{s:.2f}" for s in seen.answer_s)
        roles = max(seen.memory, key=len)
        parts = ", ".join(f"{role} {mb:.0f}" for role, mb in roles)
        probed = f"{statistics.median(seen.probed):.0f}" if seen.probed else ""
        lines.append(
            f"| {seen.name} | **{statistics.median(seen.answer_s):.2f}** ({runs}) "
            f"| **{seen.total_mb:.0f}** | {parts} | {probed} |"
        )
    lines += ["", f"Aims of this server: {AIM_S} s again, {AIM_MB} MiB."]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 when a server did not start."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_start", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    known = tuple(peer.name for peer in PEERS)
    parser.add_argument("--peers", type=lambda t: names(known, t), default=frozenset(known))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write every figure into this file")
    arguments_of_cache(parser)
    given = parser.parse_args(arguments)
    case = prepare(WORKLOADS[0], given.cache)
    peers = [peer for peer in PEERS if peer.name in given.peers]
    kept = given.cache / "cold-start" / str(os.getpid())
    try:
        homes = {p.name: environment(given.cache, p.name, p.packages) for p in peers}
        seen = measure(case, peers, homes, kept, given)
    except (NotInstalled, NotStarted) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(kept, ignore_errors=True)
    print(table(seen))
    if given.json is not None:
        given.json.write_text(json.dumps([dataclasses.asdict(s) for s in seen], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
