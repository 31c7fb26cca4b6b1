"""A real ``serving start`` for tests: its own process group, free ports, nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil


class ServerProcess:
    """A running server. ``base`` is its REST address, ``grpc`` its ``host:port``."""

    def __init__(self, process: subprocess.Popen[bytes], ready: Path, log: Path) -> None:
        self.process = process
        self.log_file = log
        self._ready = ready
        self.rest_port = 0
        self.grpc_port = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        def there() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended ({self.process.returncode}):\n{self.log()}")
            return self._ready.exists()

        until(there, timeout_s, "the ready file")
        told = json.loads(self._ready.read_text())
        self.rest_port, self.grpc_port = told["rest_port"], told["grpc_port"]

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    def workers(self) -> list[psutil.Process]:
        """Return the serving workers (``cpu-…``), not helpers or trials."""
        return self._running("serving.worker", but="--expendable")

    def front_ends(self) -> list[psutil.Process]:
        """Return the front ends that are processes of their own."""
        return self._running("serving.gateway")

    def _running(self, module: str, but: str = " ") -> list[psutil.Process]:
        found = []
        for child in self.children():
            with contextlib.suppress(psutil.Error):
                line = child.cmdline()
                if module in line and but not in line:
                    found.append(child)
        return found

    def get(self, path: str) -> tuple[int, Any]:
        return call("GET", self.base + path)

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        return call("POST", self.base + path, body)

    def predict(self, body: Any) -> tuple[int, Any]:
        return self.post("/predict", body)

    def stop(self, timeout_s: float = 40.0) -> int:
        """SIGTERM and wait; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


def call(
    method: str, url: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Make one HTTP call; returns (status, parsed JSON or text)."""
    data = None if body is None else json.dumps(body).encode()
    fields = {"content-type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data, fields, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, _parsed(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _parsed(error.read())


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode(errors="replace")


def until(there: Any, timeout_s: float, what: str) -> None:
    """Poll until ``there()`` is true; fail naming ``what`` after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not there():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.01)


@contextlib.contextmanager
def serving(
    model_dir: Path,
    scratch: Path,
    *options: str,
    wait: bool = True,
    env: dict[str, str] | None = None,
) -> Iterator[ServerProcess]:
    """Run ``serving start`` on free ports; whatever happens, no process outlives the block.

    ``SERVING_FRONTENDS=2`` in the environment of the tests runs every server with two front-end
    processes.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    ready, log = scratch / "ready.json", scratch / "server.log"
    ready.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "serving", "start", "--model-dir", str(model_dir),
        "--rest-port", "0", "--grpc-port", "0", "--ready-file", str(ready),
        "--cache-dir", str(scratch / "cache"), *options,
    ]  # fmt: skip
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdout=sink, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
        )
    server = ServerProcess(process, ready, log)
    family: list[psutil.Process] = []
    try:
        if wait:
            server.wait_ready()
        yield server
        if process.poll() is None:
            family = server.children()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for child in family:
            with contextlib.suppress(psutil.Error):
                child.wait(5)
