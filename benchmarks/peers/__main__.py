"""The command ``python -m benchmarks.peers``: this server and others, in turns, on the same work.

    python -m benchmarks.peers                                  # all peers, about 45 minutes
    python -m benchmarks.peers --peers mosec --only tiny --seconds 3
    python -m benchmarks.peers --only image-mean                # 1x3x224x224 floats as JSON

Installs each peer into an environment of its own (in the cache folder, once; that needs a package
index), starts it at its best settings for the number of clients, and measures it and this server in
turns, so that both meet the same minutes of the machine. Needs ``wrk`` and ``h2load``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import processes
from benchmarks.__main__ import arguments_of_cache, names
from benchmarks.load import LoadFailed, MissingGenerator, require_generators
from benchmarks.measure import Plan, Row, point
from benchmarks.peers.environment import NotInstalled, environment
from benchmarks.peers.peer import PEERS, Peer
from benchmarks.peers.run import peer_running
from benchmarks.processes import NotStarted, Running
from benchmarks.wires import WrongAnswer, wires
from benchmarks.workloads import IMAGE_JSON, WORKLOADS, Case, prepare

HERE = Path(__file__).resolve().parent
_CLIENTS = (1, 8, 64)
_WORK = (*WORKLOADS, IMAGE_JSON)


@dataclass(frozen=True)
class Duel:
    """One peer and this server on one piece of work: medians, and the ratio of the rates."""

    model: str
    peer: str
    wire: str
    our_wire: str
    clients: int
    ours: float
    theirs: float
    ratio: float
    our_p50_ms: float
    their_p50_ms: float
    our_p99_ms: float
    their_p99_ms: float
    errors: int


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _duel(
    case: Case, peer: Peer, wire: str, clients: int, ours: Running, theirs: Running, plan: Plan
) -> Duel:
    """Measure both in turns, ``plan.runs`` times."""
    once = Plan(plan.seconds, 1, None)
    mine = peer.wires[wire]
    our_wire = next(w for w in wires(case) if w.name == mine)
    their_wire = peer.wire(case, wire)
    pairs: list[tuple[Row, Row]] = []
    for _ in range(plan.runs):
        connections, streams = _spread(clients, grpc=our_wire.grpc)
        pairs.append(
            (
                point(case, our_wire, ours, once, connections, streams, False),
                point(case, their_wire, theirs, once, connections, streams, False),
            )
        )
    found = Duel(
        case.workload.name,
        peer.name,
        wire,
        mine,
        clients,
        statistics.median(a.rate for a, _ in pairs),
        statistics.median(b.rate for _, b in pairs),
        statistics.median(a.rate / b.rate for a, b in pairs if b.rate),
        statistics.median(a.p50_ms for a, _ in pairs),
        statistics.median(b.p50_ms for _, b in pairs),
        statistics.median(a.p99_ms for a, _ in pairs),
        statistics.median(b.p99_ms for _, b in pairs),
        sum(a.errors + b.errors for a, b in pairs),
    )
    _say(
        f"  {peer.name} {wire} x{clients}: {found.ours:,.0f} to {found.theirs:,.0f} a second, "
        f"{found.ratio:.2f}; p50 {found.our_p50_ms:.3g} to {found.their_p50_ms:.3g} ms"
    )
    return found


def _spread(clients: int, *, grpc: bool) -> tuple[int, int]:
    """Return connections and streams: gRPC clients share connections, eight to one."""
    return (max(1, clients // 8), min(8, clients)) if grpc else (clients, 1)


def _measure(case: Case, peers: list[Peer], plan: Plan, cache: Path) -> list[Duel]:
    assert plan.command is not None
    found: list[Duel] = []
    clients = [c for c in _CLIENTS if c in case.workload.http]
    with processes.server(case, plan.command) as ours:
        for peer in peers:
            home = environment(cache, peer.name, peer.packages)
            for wire in peer.wires:
                if case.workload.only_json and "json" not in wire:
                    continue
                batches = clients if peer.gathers else [0]
                for batch in batches:
                    with peer_running(peer, case, home, wire, min(batch, 32) or 1) as theirs:
                        for count in [batch] if peer.gathers else clients:
                            found.append(_duel(case, peer, wire, count, ours, theirs, plan))
    return found


def _report(duels: list[Duel], plan: Plan) -> str:
    lines = [
        "# This server and others",
        "",
        f"Medians of {plan.runs} runs of {plan.seconds:g} s, in turns with the peer. *Ratio* is "
        "the median of this server's rate over the peer's in the same turn. Each peer at its best "
        "settings for the number of clients; the same model, engine and number of workers.",
        "",
        "| model | peer | wire (ours) | clients | ours/s | theirs/s | ratio | p50 ms | p99 ms |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {d.model} | {d.peer} | {d.wire} ({d.our_wire}) | {d.clients} | {d.ours:,.0f} | "
        f"{d.theirs:,.0f} | **{d.ratio:.2f}** | {d.our_p50_ms:.3g} / {d.their_p50_ms:.3g} | "
        f"{d.our_p99_ms:.3g} / {d.their_p99_ms:.3g} |"
        for d in duels
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run what was asked for; 0 if every answer was right."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    known = tuple(peer.name for peer in PEERS)
    models = tuple(work.name for work in _WORK)
    parser.add_argument("--peers", type=lambda t: names(known, t), default=frozenset(known))
    parser.add_argument("--only", type=lambda t: names(models, t), default=frozenset(models))
    parser.add_argument("--seconds", type=float, default=5, help="length of a run (default 5)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--out", type=Path, default=HERE.parent / "PEERS.md")
    arguments_of_cache(parser)
    asked = parser.parse_args()
    plan = Plan(asked.seconds, asked.runs, shlex.split(asked.server))
    chosen = [peer for peer in PEERS if peer.name in asked.peers]
    duels: list[Duel] = []
    try:
        require_generators()
        for work in _WORK:
            if work.name in asked.only:
                _say(work.name)
                duels += _measure(prepare(work, asked.cache), chosen, plan, asked.cache)
    except (MissingGenerator, NotInstalled, NotStarted, LoadFailed, WrongAnswer) as error:
        _say(f"error: {error}")
        return 1
    finally:
        if duels:
            asked.out.write_text(_report(duels, plan))
            asked.out.with_suffix(".json").write_text(
                json.dumps([asdict(d) for d in duels], indent=1) + "\n"
            )
            print(_report(duels, plan))
    return 1 if any(d.errors for d in duels) else 0


if __name__ == "__main__":
    sys.exit(main())
