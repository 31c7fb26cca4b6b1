"""The engine's limit: bare ONNX Runtime in a loop, in processes of its own, no server anywhere.

Run as ``python -m benchmarks.engine MODEL ROW.npy`` it is one such process: it reads lines
``<batch> <seconds>`` and answers ``ready``; another line starts the run, and it answers
``<inferences> <seconds>``. ``measure`` drives one or several of them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.workloads import Case

BATCHES = (1, 2, 4, 8, 16, 32, 64)
LONGEST_RUN_S = 4.0


@dataclass(frozen=True)
class Limit:
    """The best rate found, in rows a second, and where; ``rates`` holds one per batch size."""

    rate: float
    batch: int
    processes: int
    rates: dict[int, float]


def measure(case: Case, processes: int, seconds: float, batches: Sequence[int] = BATCHES) -> Limit:
    """Measure ``processes`` sessions of one thread each, side by side, over batch sizes."""
    with tempfile.TemporaryDirectory() as folder:
        row = Path(folder) / "row.npy"
        np.save(row, case.row)
        command = [sys.executable, "-m", "benchmarks.engine", str(case.model), str(row)]
        return sweep(command, processes, seconds, batches)


def sweep(
    command: Sequence[str],
    processes: int,
    seconds: float,
    batches: Sequence[int] = BATCHES,
    env: Mapping[str, str] | None = None,
) -> Limit:
    """Measure processes that ``command`` starts and that answer as this module's do."""
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        for _ in range(processes)
    ]
    try:
        return _sweep(children, seconds, batches)
    finally:
        for child in children:
            child.kill()
            child.communicate()


def _sweep(children: list[subprocess.Popen[str]], seconds: float, batches: Sequence[int]) -> Limit:
    rates: dict[int, float] = {}
    for batch in batches:
        if rates and batch * len(children) / max(rates.values()) > LONGEST_RUN_S:
            break  # a single run of this size would take longer than a whole measurement
        for child in children:
            _tell(child, f"{batch} {seconds}")
        for child in children:
            _hear(child)
        for child in children:
            _tell(child, "go")
        answers = [_hear(child).split() for child in children]
        rates[batch] = sum(int(count) / float(took) for count, took in answers)
    best = max(rates, key=lambda batch: rates[batch])
    return Limit(rates[best], best, len(children), rates)


def _tell(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    child.stdin.write(line + "\n")
    child.stdin.flush()


def _hear(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError("a process that measures the engine ended before it answered")
    return line


def _loop(model: str, row_file: str) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    row = np.load(row_file)
    name = session.get_inputs()[0].name
    for line in sys.stdin:
        batch, seconds = line.split()
        feed = {name: np.repeat(row, int(batch), axis=0)}
        session.run(None, feed)
        print("ready", flush=True)
        sys.stdin.readline()
        start = time.perf_counter()
        runs = 0
        while True:
            session.run(None, feed)
            runs += 1
            took = time.perf_counter() - start
            if took >= float(seconds):
                break
        print(runs * int(batch), took, flush=True)


if __name__ == "__main__":
    _loop(*sys.argv[1:3])
