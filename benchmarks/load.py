"""Load from outside: ``wrk`` for HTTP/1.1, ``h2load`` for gRPC; both are programs written in C."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.wires import Wire, framed, lua

PACKAGES = {"wrk": "wrk", "h2load": "nghttp2-client"}
WARM_UP_S = 1


class MissingGenerator(Exception):
    """A load generator is not installed; the text says what to install."""


class LoadFailed(Exception):
    """A load generator ended badly or saw no answer at all; the text holds what it printed."""


@dataclass(frozen=True)
class Sample:
    """What one run saw: answers a second, latencies in milliseconds, and answers that failed.

    ``warm_up_requests`` were sent before and count in nothing but the CPU time of the server.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    requests: int
    errors: int
    warm_up_requests: int = 0


def require_generators() -> None:
    """Raise ``MissingGenerator`` unless both programs are there."""
    missing = {program: name for program, name in PACKAGES.items() if not shutil.which(program)}
    if missing:
        raise MissingGenerator(
            f"{' and '.join(missing)} not found: on Debian or Ubuntu, "
            f"apt-get install {' '.join(missing.values())}"
        )


def drive(
    wire: Wire,
    port: int,
    connections: int,
    streams: int,
    seconds: float,
    answer_bytes: int,
    paths: Sequence[str] = (),
) -> Sample:
    """Send ``wire``'s one request again and again for ``seconds``, after a second of warm-up.

    Over HTTP it may be sent to several ``paths`` in turns.

    ``streams`` requests are open at once on each connection (HTTP/1.1: one). ``answer_bytes`` is
    the size of a right answer, by which failed gRPC calls are told: those come with status 200
    and without a message.
    """
    with tempfile.TemporaryDirectory() as folder:
        if wire.grpc:
            run = _H2load(wire, port, connections, streams, answer_bytes, Path(folder))
            warm = run.sample(WARM_UP_S)
            return replace(run.sample(seconds), warm_up_requests=warm.requests)
        if streams != 1:
            raise ValueError("HTTP/1.1 has one request a connection")
        body, script = Path(folder) / "body", Path(folder) / "post.lua"
        body.write_bytes(wire.body)
        script.write_text(lua(wire, str(body), paths))
        warm = _wrk(script, port, connections, WARM_UP_S)
        sample = _wrk(script, port, connections, seconds)
        return replace(sample, warm_up_requests=warm.requests)


def drive_evenly(
    wire: Wire, port: int, connections: int, rate: int, seconds: float, answer_bytes: int
) -> Sample:
    """Send a gRPC request ``rate`` times a second on each connection, after a second of warm-up.

    Up to 8 are open at once on each.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = _H2load(wire, port, connections, 8, answer_bytes, Path(folder))
        run.command.insert(1, f"--rps={rate}")
        warm = run.sample(WARM_UP_S)
        return replace(run.sample(seconds), warm_up_requests=warm.requests)


def _wrk(script: Path, port: int, connections: int, seconds: float) -> Sample:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout=30s"]
    command += ["-s", str(script), f"http://127.0.0.1:{port}"]
    printed = _run(command, seconds)
    found = re.search(r"^RESULT (.*)$", printed, re.MULTILINE)
    if found is None:
        raise LoadFailed(f"wrk printed no result:\n{printed}")
    result = json.loads(found[1])
    return Sample(
        rate=(result["requests"] - result["errors"]) / (result["duration_us"] / 1e6),
        p50_ms=result["p50_us"] / 1000,
        p99_ms=result["p99_us"] / 1000,
        requests=result["requests"],
        errors=result["errors"],
    )


class _H2load:
    """h2load with its log of every request, which is where the percentiles come from."""

    def __init__(
        self,
        wire: Wire,
        port: int,
        connections: int,
        streams: int,
        answer_bytes: int,
        folder: Path,
    ) -> None:
        self.log = folder / "requests.tsv"
        self.frame_bytes = answer_bytes + 5
        self.in_flight = connections * streams
        body = folder / "body"
        body.write_bytes(framed(wire.body))
        self.command = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", "-d", str(body)]
        self.command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        self.command += [f"--log-file={self.log}", f"http://127.0.0.1:{port}{wire.path}"]

    def sample(self, seconds: float) -> Sample:
        self.log.unlink(missing_ok=True)
        duration = max(1, round(seconds))
        printed = _run([*self.command[:1], "-D", str(duration), *self.command[1:]], seconds)
        times = sorted(int(line.split()[2]) / 1000 for line in self.log.read_text().splitlines())
        if len(times) < 2:
            raise LoadFailed(f"h2load saw no answers:\n{printed}")
        succeeded = _number(r"(\d+) succeeded", printed)
        failed = _number(r"(\d+) failed", printed) + _number(r"(\d+) timeout", printed)
        # What is cut off at the end of the time counts as neither; an answer without its message
        # (a gRPC error) is one whole frame short.
        missing = succeeded - _number(r"\((\d+)\) data", printed) / self.frame_bytes
        empty = round(missing) if missing > self.in_flight else 0
        return Sample(
            rate=(succeeded - empty) / duration,
            p50_ms=statistics.median(times),
            p99_ms=times[min(len(times) - 1, int(len(times) * 0.99))],
            requests=succeeded + failed,
            errors=failed + empty,
        )


def _number(pattern: str, printed: str) -> int:
    found = re.search(pattern, printed)
    if found is None:
        raise LoadFailed(f"h2load printed no {pattern!r}:\n{printed}")
    return int(found[1])


def _run(command: list[str], seconds: float) -> str:
    ended = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    if ended.returncode:
        raise LoadFailed(f"{command[0]} ended with {ended.returncode}:\n{ended.stdout}")
    return ended.stdout
