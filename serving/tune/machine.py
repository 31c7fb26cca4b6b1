"""On what was measured: the processor, its cores, and the versions that matter."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from serving import __version__
from serving.lifecycle.proofs import engine_version
from serving.master.cores import usable_cores


@dataclass(frozen=True)
class Machine:
    """A machine as a comment names it; ``cores`` are those that this process may use."""

    processor: str
    cores: int
    serving: str
    engine: str
    python: str

    @property
    def text(self) -> str:
        """The machine in a line."""
        cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
        versions = f"serving {self.serving}, onnxruntime {self.engine}, Python {self.python}"
        return f"{self.processor}, {cores}; {versions}"


def this_machine() -> Machine:
    """Return the machine that this runs on."""
    return Machine(
        processor=processor_of(_cpuinfo()),
        cores=usable_cores(),
        serving=__version__,
        engine=engine_version("onnxruntime"),
        python=platform.python_version(),
    )


def processor_of(cpuinfo: str) -> str:
    """Return the processor that ``/proc/cpuinfo`` names (proc_cpuinfo(5)), else its kind."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "cpu model") and value.strip():
            return " ".join(value.split())
    return platform.machine()


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return ""
