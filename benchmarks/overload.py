"""Offer four times what a server can do, and see what comes of it.

    python -m benchmarks.overload                # 30 s at 4 times the capacity
    python -m benchmarks.overload --seconds 5 --factor 2

The model takes ``--ms`` milliseconds a run and runs alone, so that the engine is the limit. Its
capacity is measured first, by clients that wait for their answers; then requests are sent at fixed
times, whoever has been answered or not (an open loop). Every answer is looked at: right, or
refused with 429 and ``Retry-After``; anything else fails the run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from benchmarks.processes import Running, serving
from benchmarks.watch import Watch, percentile
from serving.bench.connection import Answer, HttpConnection
from tests.models import slow

ROW = [0.25, 0.5, 0.75, 1.0]
MEAN = 0.625
_CLIENTS = 8
_MOST_CONNECTIONS = 1024
_BODY = json.dumps({"servable": "slow", "inputs": {"x": [ROW]}}).encode()
REQUEST = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)


@dataclass
class Seen:
    """What came back; latencies in milliseconds."""

    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    unsent: int = 0

    def judge(self, answer: Answer, took_ms: float) -> None:
        """Look at an answer."""
        if answer.status == "200" and _right(answer.body):
            self.accepted.append(took_ms)
        elif answer.status == "429" and answer.headers.get(b"retry-after", b"").isdigit():
            self.refused.append(took_ms)
        else:
            self.wrong.append(f"{answer.status} {answer.body[:200]!r}")


def _right(body: bytes) -> bool:
    ((mean,),) = json.loads(body)["outputs"]["y"]
    return bool(abs(mean - MEAN) < 1e-3)


async def capacity(port: int, seconds: float) -> float:
    """Return the answers a second that clients get who wait for each before the next."""
    seen, connections = Seen(), [HttpConnection("127.0.0.1", port) for _ in range(_CLIENTS)]
    end = time.monotonic() + seconds

    async def ask(connection: HttpConnection) -> None:
        while time.monotonic() < end:
            await _ask(connection, seen)

    began = time.monotonic()
    await asyncio.gather(*map(ask, connections))
    for connection in connections:
        connection.close()
    if seen.wrong or seen.refused:
        raise SystemExit(f"not even its capacity was answered: {seen.wrong[:3] or 'refused'}")
    return len(seen.accepted) / (time.monotonic() - began)


async def flood(port: int, rate: float, seconds: float) -> Seen:
    """Send ``rate`` requests a second at even times, on as many connections as that takes."""
    seen = Seen()
    free: list[HttpConnection] = []
    opened: list[HttpConnection] = []
    under_way: set[asyncio.Task[None]] = set()
    began = time.monotonic()

    async def one() -> None:
        if free:
            connection = free.pop()
        elif len(opened) < _MOST_CONNECTIONS:
            connection = HttpConnection("127.0.0.1", port)
            opened.append(connection)
        else:
            seen.unsent += 1
            return
        await _ask(connection, seen)
        free.append(connection)

    for number in range(round(rate * seconds)):
        pause = began + number / rate - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        task = asyncio.create_task(one())
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    for connection in opened:
        connection.close()
    return seen


async def _ask(connection: HttpConnection, seen: Seen) -> None:
    heard: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    began = time.perf_counter()
    connection.send(REQUEST, heard.set_result)
    seen.judge(await heard, (time.perf_counter() - began) * 1e3)


async def scene(running: Running, given: argparse.Namespace) -> bool:
    """Measure, flood, print; return whether all answers were proper."""
    await capacity(running.rest_port, 1)  # warm
    able = await capacity(running.rest_port, given.seconds / 3)
    watch = Watch(running, every_s=0.5)
    async with watch.watching():
        seen = await flood(running.rest_port, able * given.factor, given.seconds)
    # On a machine that others use too, the better of two measurements is nearer to the truth.
    able = max(able, await capacity(running.rest_port, given.seconds / 3))
    goodput = len(seen.accepted) / given.seconds
    offered = len(seen.accepted) + len(seen.refused) + len(seen.wrong)
    # Behind a full queue stand the requests in it, those in buffers, and the one that runs.
    bound_ms = (given.queue + 2) / able * 1e3
    print(f"capacity           {able:8.1f} a second (a closed loop of {_CLIENTS} clients)")
    print(
        f"offered            {offered / given.seconds:8.1f} a second, {given.factor:g} times that"
    )
    print(f"goodput            {goodput:8.1f} a second, {goodput / able:.0%} of the capacity")
    print(f"accepted           {_times(seen.accepted)}; a full queue takes {bound_ms:.0f} ms")
    print(f"refused            {_times(seen.refused)}")
    print("memory, PSS        " + ", ".join(f"{n} {mb:.1f} MiB" for n, mb in watch.thirds()))
    print(f"neither right nor refused {len(seen.wrong)}; not sent for want of connections "
          f"{seen.unsent}")  # fmt: skip
    for text in seen.wrong[:5]:
        print("  ", text)
    return not seen.wrong


def _times(ms: list[float]) -> str:
    return (
        f"{len(ms):6d}: p50 {percentile(ms, 0.5):.1f} ms, p99 {percentile(ms, 0.99):.1f} ms, "
        f"longest {max(ms, default=float('nan')):.1f} ms"
    )


def main() -> None:
    """Run the scene; exit status 1 when an answer was neither right nor refused."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=30, help="length of the flood")
    parser.add_argument("--factor", type=float, default=4, help="load, in capacities")
    parser.add_argument("--ms", type=float, default=5, help="what one run takes")
    parser.add_argument("--queue", type=int, default=32, help="max_queue_size of the servable")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "slow"
        slow(home / "1" / "model.onnx", ms=given.ms)
        # One thread: the engine is the limit, and not the core that all callers are refused on.
        (home / "servable.toml").write_text(
            f"max_batch_size = 1\nmax_queue_size = {given.queue}\nthreads = 1\n"
        )
        with serving(Path(folder)) as running:
            proper = uvloop.run(scene(running, given))
    sys.exit(0 if proper else 1)


if __name__ == "__main__":
    main()
