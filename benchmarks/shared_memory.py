"""What shared memory saves: 602 KB there and back by HTTP, by gRPC, and without a socket.

    python -m benchmarks.shared_memory                # 5 rounds of 4 s each, 8 clients
    python -m benchmarks.shared_memory --rounds 1 --seconds 1
    python -m benchmarks.shared_memory --triton       # the same of Triton, in the same rounds

A model that answers its input, one row of 3x224x224 FP32, asked in turns over V2 with binary
tensors, V2 over gRPC, and V2 over HTTP with input and output in regions of system shared memory.
Ratios are to binary tensors in the same round, and to Triton's rate over the same wire in the same
round (its Python backend, the same engine). The load generators write no region and read none: a
client that does not make its tensors in place pays for a copy each way.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson

from benchmarks.__main__ import argument_of_cache
from benchmarks.load import LoadFailed, MissingGenerator, drive, require_generators
from benchmarks.peers.environment import NotInstalled, environment
from benchmarks.peers.peer import PEERS
from benchmarks.peers.run import peer_running
from benchmarks.processes import NotStarted, Running, serving
from benchmarks.wires import Wire, WrongAnswer, check, wires
from benchmarks.workloads import Array, Case, Workload, prepare
from tests.models import identity

HOST = "127.0.0.1"
SHAPE = (3, 224, 224)
FOLDER = Path("/dev/shm")
BASE, GRPC, SHARED = "v2-binary", "grpc", "v2-shared"
OURS, TRITON = "serving", "triton"


@dataclass
class Seen:
    """One entry a round: answers a second, median latency, CPU time of all processes an answer."""

    rates: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    errors: int = 0


def workload() -> Workload:
    """Return the model: ``y = x``."""
    return Workload(
        "identity",
        lambda path: identity(path, "FP32", ("batch", *SHAPE)),
        lambda rng: rng.standard_normal((1, *SHAPE)).astype(np.float32),
    )


@contextmanager
def shared_wire(case: Case, running: Running) -> Iterator[Wire]:
    """Yield a request whose tensors are in regions, which are there until the block is left."""
    key, size = f"serving-bench-{uuid.uuid4().hex[:12]}", case.row.nbytes
    source, target = FOLDER / f"{key}-in", FOLDER / f"{key}-out"
    try:
        source.write_bytes(case.row.tobytes())
        target.write_bytes(bytes(size))
        for name, path in (("in", source), ("out", target)):
            body = orjson.dumps({"key": path.name, "byte_size": size})
            url = f"http://{HOST}:{running.rest_port}/v2/systemsharedmemory/region/{name}/register"
            urllib.request.urlopen(urllib.request.Request(url, body), timeout=10).close()
        yield _wire(case, size, target)
    finally:
        source.unlink(missing_ok=True)
        target.unlink(missing_ok=True)


def _wire(case: Case, size: int, target: Path) -> Wire:
    def place(region: str) -> dict[str, str | int]:
        return {"shared_memory_region": region, "shared_memory_byte_size": size}

    given = {"name": case.input_name, "datatype": "FP32", "shape": list(case.row.shape)}
    wanted = {"name": case.output_name, "parameters": place("out")}
    body = orjson.dumps({"inputs": [{**given, "parameters": place("in")}], "outputs": [wanted]})

    def read(answer: bytes, _headers: dict[str, str]) -> Array:
        (output,) = orjson.loads(answer)["outputs"]
        return np.frombuffer(target.read_bytes(), np.float32).reshape(output["shape"])

    path = f"/v2/models/{case.workload.name}/infer"
    return Wire(SHARED, path, {"Content-Type": "application/json"}, body, read)


def measure(
    case: Case, servers: Mapping[str, Running], given: argparse.Namespace
) -> dict[str, dict[str, Seen]]:
    """Drive the wires of all servers in turns; answers are checked before each."""
    seen: dict[str, dict[str, Seen]] = {}
    with ExitStack() as stack:
        chosen: list[tuple[str, Running, Wire]] = []
        for name, running in servers.items():
            shared = stack.enter_context(shared_wire(case, running))
            mine = [wire for wire in wires(case) if wire.name in (BASE, GRPC)] + [shared]
            seen[name] = {wire.name: Seen() for wire in mine}
            chosen += [(name, running, wire) for wire in mine]
        # A wire of one server and the same of the other follow each other.
        chosen.sort(key=lambda turn: (BASE, GRPC, SHARED).index(turn[2].name))
        for number in range(given.rounds):
            for name, running, wire in chosen:
                port = running.grpc_port if wire.grpc else running.rest_port
                size = check(wire, case, HOST, port)
                before = running.cpu_s()
                sample = drive(wire, port, given.clients, 1, given.seconds, size)
                used_s = running.cpu_s() - before
                found = seen[name][wire.name]
                found.rates.append(sample.rate)
                found.p50_ms.append(sample.p50_ms)
                answered = sample.requests + sample.warm_up_requests
                found.cpu_us.append(used_s / answered * 1e6)
                found.errors += sample.errors
                told = f"round {number + 1}: {name:7} {wire.name:10} {sample.rate:9,.1f}/s"
                print(told, file=sys.stderr, flush=True)
    return seen


def table(seen: Mapping[str, Mapping[str, Seen]]) -> str:
    """Return the medians as Markdown; ratios are taken round by round."""
    beside = TRITON in seen
    heads = "| server | wire | requests/s | to its binary | p50 ms | CPU us a request | errors |"
    lines = [heads + " to Triton |" * beside, "|" + " --- |" * (7 + beside)]
    for server, wires_ in seen.items():
        for name, found in wires_.items():
            p50, cpu = statistics.median(found.p50_ms), statistics.median(found.cpu_us)
            line = (
                f"| {server} | {name} | {statistics.median(found.rates):,.0f} "
                f"| {_ratio(found, wires_[BASE]):.2f} | {p50:.2f} | {cpu:,.0f} | {found.errors} |"
            )
            to_triton = _ratio(found, seen[TRITON][name]) if beside else 0.0
            lines.append(line + (f" **{to_triton:.2f}** |" if beside else ""))
    return "\n".join(lines)


def _ratio(one: Seen, other: Seen) -> float:
    return statistics.median(a / b for a, b in zip(one.rates, other.rates, strict=True))


@contextmanager
def _servers(case: Case, given: argparse.Namespace) -> Iterator[dict[str, Running]]:
    options = ("--client-shared-memory", "--grpc-engine", given.grpc_engine)
    with ExitStack() as stack:
        found = {OURS: stack.enter_context(serving(case.model_dir, *options))}
        if given.triton:
            peer = next(peer for peer in PEERS if peer.name == TRITON)
            home = environment(given.cache, peer.name, peer.packages)
            found[TRITON] = stack.enter_context(peer_running(peer, case, home, BASE, 1))
        yield found


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return 1 when a request failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--grpc-engine", default="lane", choices=["lane", "grpcio"])
    parser.add_argument("--triton", action="store_true", help="measure Triton beside this server")
    argument_of_cache(parser)
    given = parser.parse_args(arguments)
    try:
        require_generators()
        with tempfile.TemporaryDirectory() as folder:
            case = prepare(workload(), Path(folder))
            with _servers(case, given) as servers:
                seen = measure(case, servers, given)
    except (MissingGenerator, NotInstalled, NotStarted, LoadFailed, WrongAnswer) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(seen))
    return int(any(found.errors for each in seen.values() for found in each.values()))


if __name__ == "__main__":
    sys.exit(main())
