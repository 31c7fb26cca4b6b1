"""Ten minutes of good and bad traffic, with models replaced and workers killed all the while.

    python -m benchmarks.soak --minutes 10 --plot docs/soak.svg
    python -m benchmarks.soak --minutes 0.2

Callers of every kind ask side by side: right requests over REST and gRPC, whose answers are
compared; requests that are wrong in every way, which must be refused; callers who go away in the
middle, and callers with deadlines that cannot be kept. Meanwhile a model is replaced every few
seconds and a worker is killed now and then. A wrong answer, or an error where there must be none,
fails the run; one that says that no worker was left to run a request is counted apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psutil
import uvloop

from benchmarks.processes import Running, serving
from benchmarks.reload import grpc_request, grpc_rows, rest_request, rest_rows
from benchmarks.watch import Watch, draw
from serving.bench.connection import Answer, Connection, GrpcConnection, HttpConnection
from tests.models import picky, slow, tagged

_TIMEOUT_S = 30.0
_UNAVAILABLE = ("503", "UNAVAILABLE")
"""How a request ends that was under way in two workers which were both killed, or finds none."""


@dataclass
class Seen:
    """Outcomes by kind of caller, and what should not have been."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    unavailable: Counter[str] = field(default_factory=Counter)

    def refused(self, answer: Answer) -> bool:
        """Count an answer that says that no worker could run the request; the words of a few."""
        if answer.status not in _UNAVAILABLE:
            return False
        self.unavailable[re.sub(r"[0-9]+", "N", answer.reason)[:120]] += 1
        return True

    def note(self, caller: str, outcome: str) -> None:
        """Count an outcome."""
        self.outcomes.setdefault(caller, Counter())[outcome] += 1

    def fail(self, caller: str, what: object) -> None:
        """Note what should not have been."""
        self.note(caller, "WRONG")
        self.wrong.append(f"{caller}: {what}"[:300])


def _post(body: object, *, path: str = "/predict", fields: str = "") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{fields}content-length: {len(data)}\r\n\r\n"
    return head.encode() + data


_SLOW = {"servable": "slow", "instances": [{"x": [0.0, 0.0, 1.0, 1.0]}]}
_BAD = (
    (_post(b"{"), "400"),
    (_post({"servable": "nobody", "instances": [1]}), "404"),
    (_post({"servable": "swapped", "instances": [{"x": "a"}]}), "400"),
    (_post({"servable": "swapped", "instances": [{"y": 1}]}), "400"),
    (_post({"servable": "swapped", "instances": []}), "400"),
    (_post({"servable": "picky", "instances": [{"id": 1000}]}), "400"),
    (_post(b"", path="/v2/models/swapped/versions/999999/infer"), "404"),
    (_post(_SLOW, fields="x-request-timeout-ms: 1\r\n"), "504"),
)
"""Requests that are wrong, each with the status that says so. A loop that was held up for as long
as the run takes finds the answer and the deadline there at once: then the answer is sent."""


class Callers:
    """All the callers of one server; they go on until ``stop`` is set."""

    def __init__(self, running: Running, seen: Seen) -> None:
        self._port = running.rest_port
        self._grpc = running.grpc_port
        self._seen = seen
        self.stop = asyncio.Event()

    async def all(self, each: int) -> None:
        """Run so many of every kind."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._grpc}") as channel:
            kinds = [
                *[self._tagged("rest", self._http()) for _ in range(each)],
                *[self._tagged("grpc", GrpcConnection(channel, _TIMEOUT_S)) for _ in range(each)],
                *[self._slow() for _ in range(each)],
                *[self._bad() for _ in range(each)],
                *[self._leaving() for _ in range(each)],
            ]
            await asyncio.gather(*kinds)

    def _http(self) -> HttpConnection:
        return HttpConnection("127.0.0.1", self._port)

    async def _ask(self, connection: Connection, request: bytes) -> Answer:
        heard: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def hear(answer: Answer) -> None:
            if not heard.done():
                heard.set_result(answer)

        connection.send(request, hear)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return await heard
        except TimeoutError:
            connection.close()
            return Answer("no answer", b"", {})

    async def _tagged(self, caller: str, connection: Connection) -> None:
        request = (rest_request if caller == "rest" else grpc_request)("swapped")
        read = rest_rows if caller == "rest" else grpc_rows
        while not self.stop.is_set():
            answer = await self._ask(connection, request)
            if self._seen.refused(answer):
                continue
            rows = read(answer.body) if answer.good else []
            whole = {tag for tag, _ in rows}
            if len(whole) == 1 and [total - tag for tag, total in rows] == [0, 1, 2]:
                self._seen.note(caller, "right")
            else:
                self._seen.fail(caller, (answer.status, rows or answer.reason))
            await asyncio.sleep(0.001)
        connection.close()

    async def _slow(self) -> None:
        connection = self._http()
        while not self.stop.is_set():
            answer = await self._ask(connection, _post(_SLOW))
            if self._seen.refused(answer):
                pass
            elif _half(answer):
                self._seen.note("slow", "right")
            else:
                self._seen.fail("slow", (answer.status, answer.body))
        connection.close()

    async def _bad(self) -> None:
        connection, choose = self._http(), random.Random(1)
        while not self.stop.is_set():
            request, status = choose.choice(_BAD)
            answer = await self._ask(connection, request)
            if answer.status == status or (status == "504" and _half(answer)):
                self._seen.note("bad", answer.status)
            elif not self._seen.refused(answer):
                self._seen.fail("bad", (answer.status, "instead of", status, answer.body))
            await asyncio.sleep(0.002)
        connection.close()

    async def _leaving(self) -> None:
        """Send a request and hang up: before, while or after it runs."""
        choose = random.Random(2)
        while not self.stop.is_set():
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
            request = _post(_SLOW)
            writer.write(request[: choose.choice((40, len(request), len(request)))])
            await asyncio.sleep(choose.uniform(0, 0.02))
            writer.transport.abort()
            self._seen.note("leaving", "left")


def _half(answer: Answer) -> bool:
    """Return whether it is the right answer to ``_SLOW``: the mean of its row."""
    return answer.good and abs(json.loads(answer.body)["instances"][0]["y"][0] - 0.5) < 1e-3


async def _replace(home: Path, watch: Watch, every_s: float) -> None:
    number = 1
    while True:
        await asyncio.sleep(every_s)
        number += 1
        draft = home.parent / ".draft"
        tagged(draft / "model.onnx", float(number))
        draft.rename(home / str(number))
        # As an operator does: the one before stays until it is not needed to go back to.
        shutil.rmtree(home / str(number - 2), ignore_errors=True)
        watch.note("model replaced")


async def _kill(running: Running, watch: Watch, every_s: float) -> None:
    choose = random.Random(3)
    while True:
        await asyncio.sleep(choose.uniform(0.5, 1.5) * every_s)
        workers = running.workers()
        if len(workers) > 1:
            try:
                choose.choice(workers).kill()
                watch.note("worker killed")
            except psutil.NoSuchProcess:
                pass


async def scene(running: Running, home: Path, given: argparse.Namespace) -> bool:
    """Soak; print; return whether nothing was wrong."""
    seen, seconds = Seen(), given.minutes * 60
    watch = Watch(running, every_s=max(0.5, seconds / 600))
    callers = Callers(running, seen)
    began = time.monotonic()
    async with watch.watching():
        asking = asyncio.create_task(callers.all(given.each))
        trouble = [
            asyncio.create_task(_replace(home, watch, given.replace_s)),
            asyncio.create_task(_kill(running, watch, given.kill_s)),
        ]
        await asyncio.wait([asking, *trouble], timeout=seconds, return_when="FIRST_EXCEPTION")
        for task in trouble:
            task.cancel()
        callers.stop.set()
        await asking
        ended = await asyncio.gather(*trouble, return_exceptions=True)
    broke = [e for e in ended if isinstance(e, Exception)]
    counted = Counter(what for _, what in watch.events)
    print(f"{time.monotonic() - began:.0f} s, {dict(counted)}")
    for caller, outcomes in sorted(seen.outcomes.items()):
        print(f"{caller:8}", ", ".join(f"{what} {n}" for what, n in sorted(outcomes.items())))
    print(f"wrong answers: {len(seen.wrong)}; unavailable: {seen.unavailable.total()}")
    for reason, n in seen.unavailable.most_common(5):
        print(f"   {n} times {reason}")
    print("memory, PSS: " + ", ".join(f"{n} third {mb:.1f} MiB" for n, mb in watch.thirds()))
    for text in [*seen.wrong[:10], *map(repr, broke)]:
        print("  ", text)
    if given.plot is not None:
        title = (
            f"{given.minutes:g} minutes of good and bad traffic, models replaced, workers killed"
        )
        draw(watch, title, given.plot)
    return not seen.wrong and not broke


def main() -> None:
    """Run the scene; exit status 1 for a wrong answer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--each", type=int, default=4, help="callers of each kind")
    parser.add_argument("--replace-s", type=float, default=6, help="seconds between two models")
    parser.add_argument("--kill-s", type=float, default=15, help="seconds between two kills")
    parser.add_argument("--plot", type=Path, help="draw memory over time into this SVG or PNG")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "swapped"
        tagged(home / "1" / "model.onnx", 1.0)
        picky(Path(folder) / "picky" / "1" / "model.onnx")
        slow(Path(folder) / "slow" / "1" / "model.onnx", ms=8)
        options = ("--poll-interval-s", "0.5", "--workers", "2")
        with serving(Path(folder), *options) as running:
            right = uvloop.run(scene(running, home, given))
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
