"""What shared memory saves: 602 KB there and back by HTTP, by gRPC, and without a socket.

    python -m benchmarks.shared_memory                # 5 rounds of 4 s each, 8 clients
    python -m benchmarks.shared_memory --rounds 1 --seconds 1

A model that answers its input, one row of 3x224x224 FP32, asked in turns over V2 with binary
tensors, V2 over gRPC, and V2 over HTTP with input and output in regions of system shared memory.
Ratios are to binary tensors in the same round. The load generators write no region and read none:
a client that does not make its tensors in place pays for a copy each way.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson

from benchmarks.load import drive, require_generators
from benchmarks.processes import Running, serving
from benchmarks.wires import Array, Wire, check, wires
from benchmarks.workloads import Case, Workload, prepare
from tests.models import identity

HOST = "127.0.0.1"
SHAPE = (3, 224, 224)
FOLDER = Path("/dev/shm")
BASE, GRPC, SHARED = "v2-binary", "grpc", "v2-shared"


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


def measure(case: Case, running: Running, given: argparse.Namespace) -> dict[str, Seen]:
    """Drive the wires in turns; answers are checked before each."""
    with shared_wire(case, running) as shared:
        chosen = [wire for wire in wires(case) if wire.name in (BASE, GRPC)] + [shared]
        seen = {wire.name: Seen() for wire in chosen}
        for number in range(given.rounds):
            for wire in chosen:
                port = running.grpc_port if wire.grpc else running.rest_port
                size = check(wire, case, HOST, port)
                before = running.cpu_s()
                sample = drive(wire, port, given.clients, 1, given.seconds, size)
                used_s = running.cpu_s() - before
                found = seen[wire.name]
                found.rates.append(sample.rate)
                found.p50_ms.append(sample.p50_ms)
                answered = sample.requests + sample.warm_up_requests
                found.cpu_us.append(used_s / answered * 1e6)
                found.errors += sample.errors
                print(f"round {number + 1}: {wire.name:10} {sample.rate:9,.1f}/s", flush=True)
    return seen


def table(seen: dict[str, Seen]) -> str:
    """Return the medians as Markdown; ratios are taken round by round."""
    lines = [
        "| wire | requests/s | ratio | p50 ms | CPU us a request | errors |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in seen.items():
        pairs = zip(found.rates, seen[BASE].rates, strict=True)
        ratio = statistics.median(rate / base for rate, base in pairs)
        p50, cpu = statistics.median(found.p50_ms), statistics.median(found.cpu_us)
        rate = statistics.median(found.rates)
        lines.append(
            f"| {name} | {rate:,.0f} | {ratio:.2f} | {p50:.2f} | {cpu:,.0f} | {found.errors} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return 1 when a request failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--grpc-engine", default="grpcio", choices=["grpcio", "lane"])
    given = parser.parse_args(arguments)
    require_generators()
    with tempfile.TemporaryDirectory() as folder:
        case = prepare(workload(), Path(folder))
        options = ("--client-shared-memory", "--grpc-engine", given.grpc_engine)
        with serving(case.model_dir, *options) as running:
            seen = measure(case, running, given)
    print(table(seen))
    return int(any(found.errors for found in seen.values()))


if __name__ == "__main__":
    sys.exit(main())
