"""Starts, asks and stops the server in one process again and again; tells what it leaves behind.

    python -m tests.faults.start_stop 300

Prints processes, descriptors, threads and memory after each tenth of the cycles; the last line
says what the second half added to the first.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import socket
import sys
import tempfile
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil

from serving.api import server
from serving.client import Client
from tests.models import forms

_CALL_S = 30.0
_STAGES = """
from serving import register

model = register.declare_model("add.onnx", model_format="onnx", with_batch_dim=True)

def both(x):
    return x, x

@register.register_method(output_names=["y"])
def twice(x):
    x, again = register.add_stage(both, x, outputs_count=2)
    return register.add_stage(model, x, again, outputs_count=1)
"""


@dataclass(frozen=True)
class Footprint:
    """What a process has at one moment: children, descriptors, threads, and private KiB."""

    children: int
    descriptors: int
    threads: int
    python_threads: int
    kib: int

    def __str__(self) -> str:
        return (
            f"{self.children} processes, {self.descriptors} descriptors, {self.threads} threads "
            f"({self.python_threads} of Python), {self.kib} KiB"
        )


def footprint() -> Footprint:
    """Return what this process has now, after what nobody keeps was collected."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    me = psutil.Process()
    memory = me.memory_full_info()
    return Footprint(
        len(me.children(recursive=True)),
        me.num_fds(),
        me.num_threads(),
        threading.active_count(),
        memory.uss >> 10,
    )


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def repository(folder: Path) -> Path:
    """Make a model directory with a model, a Python stage before it, and a worker for that."""
    forms.add(folder / "twice" / "1" / "add.onnx")
    (folder / "twice" / "servable_config.py").write_text(_STAGES)
    return folder


def cycle(model_dir: Path, rest: int, grpc: int) -> None:
    """Start, answer one request, stop; afterwards both ports can be bound at once."""
    server.start_servables(server.ServableStartConfig(str(model_dir), "twice"))
    server.start_grpc_server(f"127.0.0.1:{grpc}")
    server.start_restful_server(f"127.0.0.1:{rest}")
    body = json.dumps({"instances": {"x": 1.5}}).encode()
    with urllib.request.urlopen(
        f"http://127.0.0.1:{rest}/model/twice:twice", body, _CALL_S
    ) as answer:
        assert json.loads(answer.read()) == {"instances": [{"y": 3.0}]}
    with Client(f"127.0.0.1:{grpc}", timeout_s=_CALL_S) as client:
        assert client.ready("twice")
    server.stop()
    for port in (rest, grpc):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


def cycles(model_dir: Path, count: int, step: int) -> list[Footprint]:
    """Run cycles; returns a footprint after each ``step`` of them."""
    rest, grpc = free_port(), free_port()
    found = []
    for number in range(1, count + 1):
        cycle(model_dir, rest, grpc)
        if number % step == 0:
            found.append(footprint())
            print(f"{number:4}: {found[-1]}", flush=True)
    return found


def main() -> None:
    """Run as many cycles as the command line says."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    os.environ.setdefault("SERVING_LOG_LEVEL", "error")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["SERVING_CACHE_DIR"] = f"{scratch}/cache"
        model_dir = repository(Path(scratch) / "models")
        found = cycles(model_dir, count, max(1, count // 10))
    first, last = found[len(found) // 2 - 1], found[-1]
    print(
        f"the second {count // 2} cycles: {last.children} processes left, "
        f"{last.descriptors - first.descriptors:+} descriptors, "
        f"{last.threads - first.threads:+} threads, {last.kib - first.kib:+} KiB"
    )


if __name__ == "__main__":
    main()
