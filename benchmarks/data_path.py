"""Bytes copied for each byte of a request, and allocations, on every wire and at several sizes.

    python -m benchmarks.data_path                       # about 2 minutes
    python -m benchmarks.data_path --wires v2-binary,grpc-lane --sizes 602112

The server runs with a library before all others (``counting.c``, made by the C compiler) that
counts what its processes copy with memcpy and its likes, what they allocate, and what they read and
write; with ``PYTHONMALLOC=malloc`` every Python object is an allocation of its own. So nothing is
guessed: what is told is how often the bytes of a request really were copied, whoever did it, from
the interpreter and numpy to uvloop, simdjson, orjson and gRPC. Only copies of 1 KiB and more count:
the parts of a body, not the names around them. Counting makes the server slow; speed is not looked
at here.

The model answers its input, so that as much goes out as comes in. A byte is *one* byte of the body,
in or out; the least that is possible is a read and a copy into the rows for each that comes in, and
a copy and a write for each that goes out. In JSON, numbers are read from and written to text, which
is no copy but a conversion. Requests follow one another on one connection.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import numpy as np

from benchmarks.__main__ import names
from benchmarks.processes import Running, serving
from benchmarks.shared_memory import SHARED, shared_wire
from benchmarks.wires import MAX_MESSAGE_BYTES, Wire, check, http_request, wires
from benchmarks.workloads import Case, Workload, prepare
from serving.bench.connection import Answer, Connection, GrpcConnection, HttpConnection
from tests.models import identity

HOST = "127.0.0.1"
SIZES = (64, 4096, 602_112, 16 << 20)
_MOST_JSON_BYTES = 1 << 20
_LEAST_SHARED_BYTES = 4096
_ENGINES = ("lane", "grpcio")
WIRES = ("rest-json", "v2-json", "v2-binary", "grpc-lane", "grpc-grpcio", SHARED)
_SOURCE = Path(__file__).with_name("counting.c")
_FIELDS = ("allocations", "allocated", "copied_all", "copied", "moved", "read", "written", "file")
_FORM = struct.Struct(f"{len(_FIELDS)}Q")
_WARM_UP = 20


class NoCompiler(Exception):
    """The library that counts cannot be made; the text says why."""


@dataclass(frozen=True)
class Followed:
    """What one request took: bytes of the body in and out, and the counters a request."""

    wire: str
    tensor_bytes: int
    body_in: int
    body_out: int
    master: Mapping[str, float]
    worker: Mapping[str, float]

    @property
    def body(self) -> int:
        """Bytes in and out; of shared memory, those of the tensors, which are in no body."""
        return 2 * self.tensor_bytes if self.wire == SHARED else self.body_in + self.body_out

    @property
    def copied(self) -> float:
        """Bytes that the master copied for each byte of the body."""
        return (self.master["copied"] + self.master["moved"]) / self.body


def compiled(folder: Path) -> Path:
    """Make the library that counts. Raises NoCompiler."""
    library = folder / "counting.so"
    compiler = shutil.which("cc")
    if compiler is None:
        raise NoCompiler("no C compiler: on Debian or Ubuntu, apt-get install gcc libc6-dev")
    # Nothing may turn the loop that copies into a call of what is being counted.
    flags = ["-O2", "-fno-builtin", "-fno-tree-loop-distribute-patterns", "-shared", "-fPIC"]
    made = subprocess.run(
        [compiler, *flags, "-o", str(library), str(_SOURCE), "-ldl"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise NoCompiler(f"{_SOURCE.name} cannot be compiled: {made.stderr[-500:]}")
    return library


def counting(library: Path, folder: Path) -> dict[str, str]:
    """Return the variables that make a process count, into files of this folder."""
    return {"LD_PRELOAD": str(library), "COUNTING": str(folder), "PYTHONMALLOC": "malloc"}


def counted(folder: Path, pid: int) -> dict[str, int]:
    """Return a process's counters as they are now."""
    data = (folder / str(pid)).read_bytes()
    return dict(zip(_FIELDS, _FORM.unpack(data[: _FORM.size]), strict=True))


def workload(size: int) -> Workload:
    """Return the model ``y = x`` for rows of so many bytes."""
    elements = size // 4
    return Workload(
        f"identity-{size}",
        lambda path: identity(path, "FP32", ("batch", elements)),
        lambda rng: rng.standard_normal((1, elements)).astype(np.float32).round(4),
    )


async def _ask(connection: Connection, request: bytes, times: int) -> Answer:
    loop = asyncio.get_running_loop()
    for _ in range(times):
        heard: asyncio.Future[Answer] = loop.create_future()
        connection.send(request, heard.set_result)
        answer = await heard
        if not answer.good:
            raise SystemExit(f"not answered: {answer.reason}")
    return answer


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    kept = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


async def _follow(wire: Wire, running: Running, folder: Path, times: int) -> dict[str, object]:
    """Send one request again and again; return what each process counted for one."""
    if wire.grpc:
        sizes = ("grpc.max_receive_message_length", "grpc.max_send_message_length")
        options = [(name, 2 * MAX_MESSAGE_BYTES) for name in sizes]
        async with grpc.aio.insecure_channel(
            f"{HOST}:{running.grpc_port}", options=options
        ) as channel:
            return await _counted(GrpcConnection(channel, 60), wire.body, running, folder, times)
    connection = HttpConnection(HOST, running.rest_port)
    try:
        request = http_request(wire, running.rest_port)
        return await _counted(connection, request, running, folder, times)
    finally:
        connection.close()


async def _counted(
    connection: Connection, request: bytes, running: Running, folder: Path, times: int
) -> dict[str, object]:
    (worker,) = running.workers()
    await _ask(connection, request, _WARM_UP)
    before = [counted(folder, pid) for pid in (running.pid, worker.pid)]
    answer = await _ask(connection, request, times)
    after = [counted(folder, pid) for pid in (running.pid, worker.pid)]
    told = [
        {name: (last[name] - first[name]) / times for name in _FIELDS}
        for first, last in zip(before, after, strict=True)
    ]
    return {"body_out": len(answer.body), "master": told[0], "worker": told[1]}


def _times(size: int) -> int:
    return max(10, min(200, (64 << 20) // size))


def follow(case: Case, running: Running, folder: Path, chosen: frozenset[str], engine: str,
           size: int) -> list[Followed]:  # fmt: skip
    """Follow a request of one size over each wire of one server."""
    found = []

    def one(wire: Wire, name: str) -> None:
        check(wire, case, HOST, running.grpc_port if wire.grpc else running.rest_port)
        told = asyncio.run(_follow(wire, running, folder, _times(size)))
        found.append(Followed(name, size, len(wire.body), **told))  # type: ignore[arg-type]
        print(f"  {name:11} {size:>9} bytes", file=sys.stderr, flush=True)

    for wire in wires(case):
        name = f"grpc-{engine}" if wire.grpc else wire.name
        again = not wire.grpc and engine != _ENGINES[0]
        too_long = wire.name.endswith("-json") and size > _MOST_JSON_BYTES
        if name in chosen and not again and not too_long:
            one(wire, name)
    if SHARED in chosen and engine == _ENGINES[0] and size >= _LEAST_SHARED_BYTES:
        with shared_wire(case, running) as wire:
            one(wire, SHARED)
    return found


def measure(chosen: frozenset[str], sizes: list[int]) -> list[Followed]:
    """Follow requests of all sizes over all wires that were chosen."""
    found: list[Followed] = []
    with tempfile.TemporaryDirectory() as made:
        home = Path(made)
        counters = home / "counters"
        counters.mkdir()
        library = compiled(home)
        cases = {size: prepare(workload(size), home / "models") for size in sizes}
        for engine in _ENGINES if f"grpc-{_ENGINES[1]}" in chosen else _ENGINES[:1]:
            for size, case in cases.items():
                options = ("--grpc-engine", engine, "--client-shared-memory")
                with (
                    _environment(counting(library, counters)),
                    serving(case.model_dir, *options) as running,
                ):
                    found += follow(case, running, counters, chosen, engine, size)
    return sorted(found, key=lambda path: (WIRES.index(path.wire), path.tensor_bytes))


def table(found: list[Followed]) -> str:
    """Return the paths as Markdown."""
    lines = [
        "| wire | tensor, bytes | body in / out | read | copied a byte, master | of which moved "
        "| copied a tensor byte, worker | written | allocations, master | KiB | worker |",
        "|" + " --- |" * 11,
    ]
    for path in found:
        m, w = path.master, path.worker
        lines.append(
            f"| {path.wire} | {path.tensor_bytes:,} | {path.body_in:,} / {path.body_out:,} "
            f"| {(m['read'] + m['file']) / path.body:.2f} | **{path.copied:.2f}** "
            f"| {m['moved'] / path.body:.2f} | {w['copied'] / path.tensor_bytes:.2f} "
            f"| {m['written'] / path.body:.2f} | **{m['allocations']:,.0f}** "
            f"| {m['allocated'] / 1024:,.1f} | {w['allocations']:,.0f} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Follow, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data_path", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--wires",
        type=lambda text: names(WIRES, text),
        default=frozenset(WIRES),
        help=f"wire formats, with commas: {','.join(WIRES)}",
    )
    parser.add_argument(
        "--sizes",
        type=lambda text: [int(size) for size in text.split(",")],
        default=list(SIZES),
        help="bytes of the tensor, with commas",
    )
    parser.add_argument("--json", type=Path, help="write every counter into this file")
    given = parser.parse_args(arguments)
    try:
        found = measure(given.wires, given.sizes)
    except NoCompiler as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(found))
    if given.json is not None:
        given.json.write_text(json.dumps([dataclasses.asdict(p) for p in found], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
