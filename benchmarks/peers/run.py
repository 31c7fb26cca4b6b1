"""Runs a peer for a while: its process group, its ports, and nothing left of it afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks.peers.peer import Peer, Start
from benchmarks.processes import (
    POLL_S,
    START_TIMEOUT_S,
    STOP_TIMEOUT_S,
    NotStarted,
    Running,
    tie,
)
from benchmarks.workloads import Case

Plan = Callable[[Path, int, int], Start]
"""Says what to run, given a folder of its own, a port for REST and one for gRPC."""


@contextlib.contextmanager
def peer_running(peer: Peer, case: Case, home: Path, wire: str, batch: int) -> Iterator[Running]:
    """Start a peer on free ports and yield it once it is ready."""

    def plan(folder: Path, rest_port: int, grpc_port: int) -> Start:
        return peer.start(case, home, folder, wire, batch, rest_port, grpc_port)

    with started(peer.name, plan) as running:
        yield running


@contextlib.contextmanager
def started(name: str, plan: Plan) -> Iterator[Running]:
    """Start what ``plan`` makes of a folder, a REST and a gRPC port; yield it once it is ready."""
    with launched(plan) as (process, start, log):
        began = time.monotonic()
        while not _answers(start.rest_port, start.ready):
            if process.poll() is not None or time.monotonic() - began > START_TIMEOUT_S:
                text = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                raise NotStarted(f"{name} did not start:\n{text}")
            time.sleep(POLL_S)
        ready_s = time.monotonic() - began
        yield Running(process.pid, start.rest_port, start.grpc_port, ready_s)


@contextlib.contextmanager
def launched(
    plan: Plan, environment: Mapping[str, str] = os.environ
) -> Iterator[tuple[subprocess.Popen[bytes], Start, Path]]:
    """Run what ``plan`` says and wait for nothing; yield it, its plan, and its log."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        start = plan(folder, *_free_ports())
        log = folder / "log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                start.command,
                env={**environment, **start.env},
                cwd=start.cwd or folder,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=tie(),
            )
        try:
            yield process, start, log
        finally:
            _end(process)


def _free_ports() -> tuple[int, int]:
    """Return two ports that are free now: peers cannot say which one they were given."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return bool(200 <= answer.status < 300)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to leave, then make sure of its whole group."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
