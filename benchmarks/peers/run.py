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
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.peer import Peer
from benchmarks.processes import POLL_S, START_TIMEOUT_S, STOP_TIMEOUT_S, NotStarted, Running
from benchmarks.workloads import Case


@contextlib.contextmanager
def peer_running(peer: Peer, case: Case, home: Path, wire: str, batch: int) -> Iterator[Running]:
    """Start a peer on free ports and yield it once it is ready."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = peer.start(case, home, folder, wire, batch, *_free_ports())
        log = folder / "log"
        with log.open("wb") as sink:
            began = time.monotonic()
            process = subprocess.Popen(
                start.command,
                env={**os.environ, **start.env},
                cwd=start.cwd or folder,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            while not _answers(start.rest_port, start.ready):
                if process.poll() is not None or time.monotonic() - began > START_TIMEOUT_S:
                    text = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                    raise NotStarted(f"{peer.name} did not start:\n{text}")
                time.sleep(POLL_S)
            ready_s = time.monotonic() - began
            yield Running(process.pid, start.rest_port, start.grpc_port, ready_s)
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
            return 200 <= answer.status < 300
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
