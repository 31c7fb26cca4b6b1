"""The one machine of this process: what is alive, what went wrong, and which call fails next."""

from __future__ import annotations

import atexit
import itertools
import json
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from cuda.simulated.failures import Failures
from cuda.simulated.memory import Spans, view
from cuda.simulated.stream import Stream

# What stays once it has struck: every later call of the process returns it again.
STICKY = frozenset(
    {
        "cudaErrorIllegalAddress", "cudaErrorLaunchFailure", "cudaErrorLaunchTimeout",
        "cudaErrorECCUncorrectable", "cudaErrorHardwareStackError", "cudaErrorIllegalInstruction",
        "cudaErrorMisalignedAddress", "cudaErrorAssert", "cudaErrorDevicesUnavailable",
    }
)  # fmt: skip


class Machine:
    """State of the driver; all threads."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.devices = int(os.environ.get("TRT_DOUBLE_DEVICES", "1"))
        self.memory = int(os.environ.get("TRT_DOUBLE_MEMORY_MB", "8192")) << 20
        self.read_only = os.environ.get("TRT_DOUBLE_READ_ONLY", "1") != "0"
        self.sleep_s = float(os.environ.get("TRT_DOUBLE_SLEEP_MS", "0")) / 1e3
        self.failures = Failures()
        self.on_device, self.pinned, self.registered = Spans(), Spans(), Spans()
        self.streams: dict[int, Stream] = {}
        self.graphs: dict[int, list[Any]] = {}
        self.executables: dict[int, list[Any]] = {}
        self.objects: Counter[str] = Counter()
        """Live objects of TensorRT, by kind."""
        self.scratch: set[int] = set()
        """Memory that a run computes in, by address."""
        self.violations: list[str] = []
        self.launches = 0
        self.graph_launches = 0
        self.sticky = ""
        self.last = ""
        self._handles = itertools.count(0x1000, 0x10)
        self._current = threading.local()
        self._timeline = os.environ.get("TRT_DOUBLE_TIMELINE", "")
        report = os.environ.get("TRT_DOUBLE_REPORT", "")
        if report:
            atexit.register(lambda: Path(report).write_text(json.dumps(self.report())))

    # -- devices and failures -----------------------------------------------------------------

    @property
    def device(self) -> int:
        """The calling thread's device."""
        return int(getattr(self._current, "device", 0))

    def choose(self, device: int) -> None:
        self._current.device = device

    def strike(self, call: str) -> str:
        """Count a call; return the error that it is to fail with, or nothing."""
        error = self.failures.strike(call, self.device)
        if error:
            self.fail(error)
        return self.sticky or error

    def fail(self, error: str) -> None:
        """Remember an error as CUDA does."""
        self.last = error
        if error in STICKY:
            self.sticky = error

    def violate(self, text: str) -> None:
        """Note that the API was used in a way that a real GPU would not forgive."""
        self.violations.append(text)
        self.note({"event": "violation", "text": text})

    def revive(self) -> None:
        """Begin as a new process would: no error, no order, nothing counted."""
        self.sticky = self.last = ""
        self.scratch.clear()
        self.failures.order(None)

    # -- handles and memory -------------------------------------------------------------------

    def handle(self) -> int:
        return next(self._handles)

    def reached(self, address: int, nbytes: int, *, write: bool) -> bool:
        """Tell whether the device may copy from or to these bytes of the host."""
        for spans in (self.pinned, self.registered):
            span = spans.find(address, nbytes)
            if span is not None and not (write and span.read_only):
                return True
        return False

    def drain(self) -> None:
        """Wait for all streams, as freeing memory does."""
        for stream in list(self.streams.values()):
            stream.drain()

    def read(self, address: int, nbytes: int) -> bytes:
        """Read device memory in the course of a kernel."""
        if self.on_device.find(address, nbytes) is None:
            self.fault(f"a kernel read {nbytes} bytes of device memory that is not alive")
            return bytes(nbytes)
        return view(address, nbytes).tobytes()

    def write(self, address: int, data: bytes) -> None:
        """Write device memory in the course of a kernel."""
        if self.on_device.find(address, len(data)) is None:
            self.fault(f"a kernel wrote {len(data)} bytes of device memory that is not alive")
            return
        view(address, len(data))[:] = memoryview(data)

    def fault(self, text: str) -> None:
        """A kernel met memory that is not there: a violation, and the device is lost."""
        self.violate(text)
        self.fail("cudaErrorIllegalAddress")

    # -- what is told -------------------------------------------------------------------------

    def note(self, event: dict[str, Any]) -> None:
        """Append to the timeline, whole lines at a time: several workers may write to one."""
        if not self._timeline:
            return
        told = {"at": time.monotonic(), "pid": os.getpid(), **event}
        file = os.open(self._timeline, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, json.dumps(told).encode() + b"\n")
        finally:
            os.close(file)

    def report(self) -> dict[str, Any]:
        """Return what is alive, what was done wrong, and what was called how often."""
        live: dict[str, int] = {
            "device memory": len(self.on_device.live),
            "pinned memory": len(self.pinned.live),
            "registered memory": len(self.registered.live),
            "streams": len(self.streams),
            "graphs": len(self.graphs),
            "executable graphs": len(self.executables),
            **self.objects,
        }
        return {
            "live": {kind: count for kind, count in live.items() if count},
            "violations": self.violations,
            "calls": dict(self.failures.counts),
            "launches": self.launches,
            "graph_launches": self.graph_launches,
            "sticky": self.sticky,
        }


MACHINE = Machine()
