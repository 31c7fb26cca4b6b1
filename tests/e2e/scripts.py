"""Start scripts in processes of their own, under MindSpore Serving's import name."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.server import until

COMPAT = Path(__file__).parents[2] / "serving" / "register" / "compat"
OVER = "the script is over"


def _signals_as_usual() -> None:
    """A shell that runs tests in the background has its children ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Script:
    """A running script; what it prints is collected in a file."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, words: str, timeout_s: float = 60.0) -> None:
        def there() -> bool:
            if words in self.text():
                return True
            code = self.process.poll()
            assert code is None, f"the script ended ({code}):\n{self.text()}"
            return False

        until(there, timeout_s, repr(words))

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def signal(self, number: int, timeout_s: float = 40.0) -> int:
        """Send a signal and wait; returns the exit code. Nothing of its family is left then."""
        family = self.family()
        self.process.send_signal(number)
        code = self.process.wait(timeout_s)
        _, alive = psutil.wait_procs(family, 5)
        assert alive == [], self.text()
        return code


@contextlib.contextmanager
def script(folder: Path, text: str, **variables: str) -> Iterator[Script]:
    """Run a script; whatever happens, no process of it outlives the block."""
    folder.mkdir(parents=True, exist_ok=True)
    file, log = folder / "start.py", folder / "script.log"
    file.write_text(f"from mindspore_serving import server\n{text}\nprint('{OVER}', flush=True)\n")
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), str(COMPAT)]))
    environment = {
        **os.environ, "PYTHONPATH": path, "SERVING_CACHE_DIR": str(folder / "cache"), **variables
    }  # fmt: skip
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, str(file)],
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=_signals_as_usual,
        )
    running = Script(process, log)
    family: list[psutil.Process] = []
    try:
        yield running
    finally:
        if process.poll() is None:
            with contextlib.suppress(psutil.Error):
                family = running.family()
            process.kill()
            process.wait()
        psutil.wait_procs(family, 5)


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def is_free(port: int) -> bool:
    """Return whether a port can be listened on at once."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
