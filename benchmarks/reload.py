"""Replace a model again and again under the eyes of its clients.

    python -m benchmarks.reload                  # 64 clients, 20 reloads
    python -m benchmarks.reload --clients 8 --reloads 3

Two models answer differently; the clients ask all the time, over REST and every eighth over gRPC,
and look at every answer: it must come whole from one version. What is reported is how many failed
or were mixed, and how long answers took while a reload was under way and while none was.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import uvloop

from benchmarks.processes import serving
from benchmarks.watch import percentile
from serving.bench.connection import Answer, Connection, GrpcConnection, HttpConnection
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from tests.models import tagged

_ROWS = 3
_TIMEOUT_S = 30.0


@dataclass
class Seen:
    """What clients were told; ``calls`` are (when it began, how long it took) in seconds."""

    tags: Counter[float] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    calls: list[tuple[float, float]] = field(default_factory=list)

    def judge(self, answer: Answer, read: Callable[[bytes], list[tuple[float, float]]]) -> None:
        """Look at an answer: the rows are (tag, sum), and the sums are 0, 1, 2 more."""
        rows = read(answer.body) if answer.good else []
        tags = {tag for tag, _ in rows}
        sums = [total - tag for tag, total in rows]
        if len(tags) == 1 and sums == list(range(_ROWS)):
            self.tags[tags.pop()] += 1
        else:
            self.wrong.append(f"{answer.reason if not answer.good else ''} {rows}")


def rest_request(servable: str) -> bytes:
    """Return a request for three rows."""
    body = json.dumps({"servable": servable, "instances": [{"x": n} for n in range(_ROWS)]})
    return (
        f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
    )


def rest_rows(body: bytes) -> list[tuple[float, float]]:
    """Return (tag, sum) of each row."""
    return [(row["tag"], row["sum"]) for row in json.loads(body)["instances"]]


def grpc_request(servable: str) -> bytes:
    """Return the same request for V2 over gRPC."""
    message = pb.ModelInferRequest(model_name=servable)
    message.inputs.add(name="x", datatype="FP32", shape=[_ROWS])
    message.raw_input_contents.append(np.arange(_ROWS, dtype=np.float32).tobytes())
    data: bytes = message.SerializeToString()
    return data


def grpc_rows(body: bytes) -> list[tuple[float, float]]:
    """Return (tag, sum) of each row."""
    message = pb.ModelInferResponse.FromString(body)
    columns = [np.frombuffer(raw, np.float32).tolist() for raw in message.raw_output_contents]
    return list(zip(*columns, strict=True))


async def ask(
    connection: Connection,
    request: bytes,
    read: Callable[[bytes], list[tuple[float, float]]],
    seen: Seen,
    stop: asyncio.Event,
) -> None:
    """Ask until told to stop."""
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        heard: asyncio.Future[Answer] = loop.create_future()
        began = time.monotonic()
        connection.send(request, heard.set_result)
        answer = await heard
        seen.calls.append((began, time.monotonic() - began))
        seen.judge(answer, read)
    connection.close()


async def reloads(home: Path, count: int, seen: Seen) -> list[tuple[float, float]]:
    """Put version after version in; return when each reload began and ended."""
    spans = []
    for number in range(2, 2 + count):
        await asyncio.sleep(0.5)
        began = time.monotonic()
        draft = home.parent / f".{number}"
        tagged(draft / "model.onnx", float(number))
        draft.rename(home / str(number))
        while not seen.tags[float(number)]:
            await asyncio.sleep(0.01)
        shutil.rmtree(home / str(number - 1))
        await asyncio.sleep(0.5)  # the old one is drained and unloaded in this time
        spans.append((began, time.monotonic()))
    return spans


async def scene(rest_port: int, grpc_port: int, home: Path, given: argparse.Namespace) -> bool:
    """Ask and replace; print; return whether every answer was whole and right."""
    seen, stop = Seen(), asyncio.Event()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        asking = []
        for index in range(given.clients):
            rest = index % 8 > 0
            connection: Connection = (
                HttpConnection("127.0.0.1", rest_port)
                if rest
                else GrpcConnection(channel, _TIMEOUT_S)
            )
            request, read = (rest_request, rest_rows) if rest else (grpc_request, grpc_rows)
            work = ask(connection, request(home.name), read, seen, stop)
            asking.append(asyncio.create_task(work))
        began = time.monotonic()
        await asyncio.sleep(given.before)
        quiet = [took for _, took in seen.calls]
        spans = await reloads(home, given.reloads, seen)
        stop.set()
        await asyncio.gather(*asking)
    busy = [took for at, took in seen.calls if any(a <= at <= b for a, b in spans)]
    took = [end - start for start, end in spans]
    print(f"{given.clients} clients, {len(seen.calls)} answers in {time.monotonic() - began:.1f} s")
    print(f"{given.reloads} reloads of {percentile(took, 0.5):.2f} s each (median)")
    print(f"failed or mixed answers: {len(seen.wrong)}")
    print(f"versions that answered: {len(seen.tags)} of {given.reloads + 1}")
    _print("before the first reload", quiet)
    _print("while one was under way", busy)
    print(f"p99 while reloading / before: {percentile(busy, 0.99) / percentile(quiet, 0.99):.2f}")
    for text in seen.wrong[:5]:
        print("  ", text)
    return not seen.wrong and len(seen.tags) == given.reloads + 1


def _print(when: str, seconds: list[float]) -> None:
    ms = [s * 1e3 for s in seconds]
    print(
        f"{when}: {len(ms)} answers, p50 {percentile(ms, 0.5):.1f} ms, "
        f"p99 {percentile(ms, 0.99):.1f} ms, longest {max(ms, default=float('nan')):.1f} ms"
    )


def main() -> None:
    """Run the scene; exit status 1 when an answer failed or was a mixture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reload", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--reloads", type=int, default=20)
    parser.add_argument("--before", type=float, default=10, help="seconds without a reload")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "swapped"
        tagged(home / "1" / "model.onnx", 1.0)
        options = ("--poll-interval-s", "0.2", "--workers", str(given.workers))
        with serving(Path(folder), *options) as running:
            proper = uvloop.run(scene(running.rest_port, running.grpc_port, home, given))
    sys.exit(0 if proper else 1)


if __name__ == "__main__":
    main()
