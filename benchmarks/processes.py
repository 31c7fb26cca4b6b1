"""Starts what is measured, waits for it, and reads from /proc what it holds and what it costs."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.workloads import Case
from serving.worker.parent import die_with_the_master

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60
POLL_S = 0.02
ENGINE_MARKS = ("onnx",)
"""What the name of a mapped file shows of an engine or a model: onnxruntime, onnx, *.onnx."""


class NotStarted(Exception):
    """A process ended, or was not ready in time; the text holds the end of what it printed."""


@dataclass(frozen=True)
class Running:
    """A process under test and its ports (0 where it has none)."""

    pid: int
    rest_port: int
    grpc_port: int
    ready_s: float

    def cpu_s(self) -> float:
        """CPU seconds used so far by the process and all below it."""
        return sum(t.user + t.system for t in (p.cpu_times() for p in self._tree()))

    def master_cpu_s(self) -> float:
        """CPU seconds used so far by the process itself."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def memory(self) -> list[tuple[str, int, float]]:
        """Return (role, pid, PSS in MiB) of the master and each process below it."""
        found = []
        for process in self._tree():
            with suppress(psutil.NoSuchProcess, OSError):  # it ended while we looked
                role = "master" if process.pid == self.pid else _role(process)
                found.append((role, process.pid, _pss_mb(process.pid)))
        return found

    def workers(self) -> list[psutil.Process]:
        """Return the workers that serve, not those that try models out."""
        found = []
        for process in self._tree():
            with suppress(psutil.Error):
                line = process.cmdline()
                if "serving.worker" in line and "--expendable" not in line:
                    found.append(process)
        return found

    def engine_mappings(self) -> list[str]:
        """Return the files mapped into the master that belong to an engine; it should be none."""
        lines = Path(f"/proc/{self.pid}/maps").read_text().splitlines()
        files = {line.split(maxsplit=5)[5] for line in lines if len(line.split(maxsplit=5)) == 6}
        return sorted(f for f in files if any(mark in Path(f).name for mark in ENGINE_MARKS))

    def _tree(self) -> list[psutil.Process]:
        top = psutil.Process(self.pid)
        return [top, *top.children(recursive=True)]


def _role(process: psutil.Process) -> str:
    line = process.cmdline()
    if "-m" in line[:-1]:
        return line[line.index("-m") + 1].rpartition(".")[2]
    return process.name()


def _pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/{pid}/smaps_rollup has no Pss line")


def tie() -> Callable[[], None]:
    """Return what a process of ours does first (``preexec_fn``): it is to leave when we end.

    However we end: a benchmark that is killed unwinds nothing.
    """
    return functools.partial(die_with_the_master, os.getpid(), signal.SIGTERM)


@contextmanager
def server(case: Case, command: list[str], *options: str) -> Iterator[Running]:
    """Run the server on ``case``'s repository until the block is left; stopped by SIGTERM."""
    with tempfile.TemporaryDirectory() as folder:
        ready_file = Path(folder) / "ready.json"
        full = [*command, "start", "--model-dir", str(case.model_dir), "--host", "127.0.0.1"]
        full += ["--rest-port", "0", "--grpc-port", "0", "--workers", str(case.workload.workers)]
        full += ["--ready-file", str(ready_file), *options]
        with _started(full, ready_file) as (process, text, ready_s):
            told = json.loads(text)
            yield Running(
                int(told.get("pid", process.pid)), told["rest_port"], told["grpc_port"], ready_s
            )


@contextmanager
def serving(model_dir: Path, *options: str) -> Iterator[Running]:
    """Run ``serving start`` of this environment on a repository until the block is left."""
    with tempfile.TemporaryDirectory() as folder:
        ready_file = Path(folder) / "ready.json"
        command = [sys.executable, "-m", "serving", "start", "--model-dir", str(model_dir)]
        command += ["--rest-port", "0", "--grpc-port", "0", "--ready-file", str(ready_file)]
        command += ["--cache-dir", str(Path(folder) / "cache"), *options]
        with _started(command, ready_file) as (process, text, ready_s):
            told = json.loads(text)
            yield Running(process.pid, told["rest_port"], told["grpc_port"], ready_s)


@contextmanager
def echo(kind: str) -> Iterator[Running]:
    """Run the ``asgi`` or the ``grpc`` echo until the block is left."""
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        command = [sys.executable, "-m", "benchmarks.echoes", kind, str(port_file)]
        with _started(command, port_file) as (process, text, ready_s):
            port = int(text)
            rest, grpc = (port, 0) if kind == "asgi" else (0, port)
            yield Running(process.pid, rest, grpc, ready_s)


@contextmanager
def _started(
    command: list[str], ready_file: Path
) -> Iterator[tuple[subprocess.Popen[bytes], str, float]]:
    """Start ``command`` in a process group of its own; yield once ``ready_file`` is there."""
    log = ready_file.with_name("log")
    with log.open("wb") as sink:
        start = time.monotonic()
        process = subprocess.Popen(
            command,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=tie(),
        )
    try:
        while not (ready_file.exists() and ready_file.read_text()):
            if process.poll() is not None:
                raise NotStarted(f"{command[0]} ended with {process.returncode}:\n{_tail(log)}")
            if time.monotonic() - start > START_TIMEOUT_S:
                raise NotStarted(f"not ready after {START_TIMEOUT_S} s:\n{_tail(log)}")
            time.sleep(POLL_S)
        yield process, ready_file.read_text(), time.monotonic() - start
        if process.poll() is not None:
            raise NotStarted(f"died under load with {process.returncode}:\n{_tail(log)}")
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _tail(log: Path, lines: int = 30) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
