"""One cell of the kill matrix: a server in some state, one of its processes, and a signal."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.faults.client import Answer, Client, Refused
from tests.models import hang_at_load, slow, spinning
from tests.server import ServerProcess, until
from tests.shared_objects import names_of_servers

HEARTBEAT_S = 1.0
OPTIONS = (
    "--heartbeat-timeout-s", str(HEARTBEAT_S), "--run-timeout-s", "10", "--drain-timeout-s", "10",
    "--poll-interval-s", "0.1",
)  # fmt: skip

ROLES: dict[str, Callable[[ServerProcess], psutil.Process]] = {
    "master": lambda server: psutil.Process(server.pid),
    "worker": lambda server: server.workers()[0],
    "stage worker": lambda server: _stage_worker(server),
}
"""Who is hit, and how it is found; the matrix has a row of cells for each."""
SIGNALS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)
STATES = ("idle", "loading", "mid-batch", "draining")

_STAGED = "staged"
_FUNCTION = """
import time
from serving import register

def first(x):
    time.sleep(0.03)
    return x[:1]

@register.register_method(output_names=["y"])
def predict(x):
    return register.add_stage(first, x, outputs_count=1)
"""

_NAMES = itertools.count()
_CLIENTS = 4
_RUN_MS = 30
_LONG_TURNS = 300_000
_HELD_S = 1.5 * HEARTBEAT_S
_OVER_S = 45.0


@dataclass(frozen=True)
class Cell:
    """Who is hit by what, and in which state."""

    role: str
    signal: signal.Signals
    state: str

    def __str__(self) -> str:
        return f"{self.signal.name} {self.role} {self.state}"

    @property
    def ends_the_server(self) -> bool:
        """Whether the server is gone afterwards; else it must serve as before."""
        ends = self.role == "master" and self.signal is not signal.SIGSTOP
        return ends or self.state == "draining"


CELLS = [Cell(role, number, state) for role in ROLES for number in SIGNALS for state in STATES]


def write_models(home: Path) -> tuple[Path, Path]:
    """Write a repository of two models, and beside it one that takes a while to load.

    ``slow`` is batched and takes 30 ms a run, ``spinning`` as long as it is asked to; ``staged``
    is a Python function that takes 30 ms too.
    """
    slow(home / "models" / "slow" / "1" / "model.onnx", ms=_RUN_MS)
    spinning(home / "models" / "spinning" / "1" / "model.onnx")
    hang_at_load(home / "late" / "1" / "model.onnx", steps=15, width=1024)
    (home / "models" / _STAGED).mkdir()
    (home / "models" / _STAGED / "servable_config.py").write_text(_FUNCTION)
    return home / "models", home / "late"


class Traffic:
    """Clients that call all the time, each with a value of its own, and how every call ended."""

    def __init__(
        self, server: ServerProcess, servable: str = "slow", clients: int = _CLIENTS
    ) -> None:
        self._server = server
        self._servable = servable
        self._clients = clients
        self._end = threading.Event()
        self._pool = ThreadPoolExecutor(clients + 1)
        self._calls: list[Future[None]] = []
        self.ends: Counter[str] = Counter()
        self.answered = [0] * clients

    def start(self) -> None:
        self._calls = [self._pool.submit(self._call, number) for number in range(self._clients)]

    def start_long(self) -> None:
        """Send one request whose run takes some tenths of a second."""
        self._calls.append(self._pool.submit(self._call_long))

    def finish(self) -> None:
        """End, and raise what any client met that should not be: a hang or a wrong answer."""
        self._end.set()
        try:
            for call in self._calls:
                call.result(_OVER_S + 10)
        finally:
            self._pool.shutdown()

    def _call(self, number: int) -> None:
        with Client(self._server.rest_port, self._servable, timeout_s=_OVER_S) as client:
            while not self._end.is_set():
                answer = client.send(x=[number / 8] * 4)
                self.ends[_end(answer)] += 1
                if not isinstance(answer, Answer) or answer.status != 200:
                    return
                given = answer.body["instances"][0]["y"]
                assert given == pytest.approx([number / 8], abs=1e-3), "a wrong answer"
                self.answered[number] += 1

    def _call_long(self) -> None:
        with Client(self._server.rest_port, "spinning", timeout_s=_OVER_S) as client:
            answer = client.send(turns=[_LONG_TURNS])
            self.ends[_end(answer)] += 1
            if isinstance(answer, Answer) and answer.status == 200:
                assert answer.body["instances"][0]["y"] == [_LONG_TURNS], "a wrong answer"


def _end(answer: Answer | Refused) -> str:
    if isinstance(answer, Refused):
        return "refused"
    return "answered" if answer.status == 200 else f"{answer.status} {answer.body['code']}"


class Trial:
    """Carries a cell out on a running server and holds what must be true afterwards."""

    def __init__(self, cell: Cell, server: ServerProcess, late: Path) -> None:
        self._cell = cell
        self._server = server
        self._late = late
        self._name = f"late-{next(_NAMES)}"
        self._log_began = len(server.log())
        staged = cell.role == "stage worker"
        self._traffic = Traffic(server, _STAGED if staged else "slow")
        self._family = [psutil.Process(server.pid), *server.children()]
        self._named = names_of_servers()

    def run(self, pause_s: float = 0.0) -> float:
        """Return the seconds from the signal until all was well again, or over."""
        try:
            return self._run(pause_s)
        finally:
            self._family += _family_of(self._server)
            for process in self._family:
                with contextlib.suppress(psutil.Error):
                    process.resume()

    def _run(self, pause_s: float) -> float:
        server, cell = self._server, self._cell
        if cell.state != "idle":
            self._traffic.start()
            until(lambda: min(self._traffic.answered) >= 1, _OVER_S, "an answer for every client")
        victim = ROLES[cell.role](server)
        self._reach(cell.state)
        time.sleep(pause_s)
        began = time.monotonic()
        with contextlib.suppress(psutil.NoSuchProcess):  # a drain may be over by now
            victim.send_signal(cell.signal)
        if cell.role == "master" and cell.signal is signal.SIGSTOP:
            time.sleep(_HELD_S)
            began = time.monotonic()
            victim.send_signal(signal.SIGCONT)
        if cell.ends_the_server:
            self._check_end()
        else:
            self._check_recovery(victim)
        return time.monotonic() - began

    def _reach(self, state: str) -> None:
        if state == "loading":
            home = Path(shutil.copytree(self._late, self._late.parent / "coming"))
            home.rename(self._late.parent / "models" / self._name)
            until(self._loads_late, _OVER_S, "a load that has begun")
        elif state == "draining":
            spinning = self._server.workers()[0].cpu_times().user
            self._traffic.start_long()
            until(lambda: self._server.workers()[0].cpu_times().user > spinning, 5, "a run")
            self._server.process.send_signal(signal.SIGTERM)
            until(lambda: "once more to stop at once" in self._server.log(), 5, "the drain")

    def _log(self) -> str:
        return self._server.log()[self._log_began :]

    def _loads_late(self) -> bool:
        return any("loading" in line and self._name in line for line in self._log().splitlines())

    def _check_end(self) -> None:
        """The server leaves, everybody is told something, and nothing is left."""
        cell, server = self._cell, self._server
        self._family += _family_of(server)
        code = server.process.wait(_OVER_S)
        twice = cell.role == "master" and cell.state == "draining"
        if cell.role == "master" and cell.signal is signal.SIGKILL:
            assert code == -signal.SIGKILL or (twice and code == 0)
        elif twice and cell.signal is signal.SIGTERM:
            assert code in (128 + signal.SIGTERM, 0)  # 0: the drain was over already
        else:
            assert code == 0, server.log()
        self._traffic.finish()
        known = {"answered", "refused", "503 draining"}
        assert set(self._traffic.ends) <= known, self._traffic.ends
        until(lambda: not [p for p in self._family if _lives(p)], 20, "the end of all processes")
        until(lambda: not names_of_servers() - self._named, 15, "an empty /dev/shm")

    def _check_recovery(self, victim: psutil.Process) -> None:
        """Every request is answered rightly, by the same worker or by another in its place."""
        cell, server = self._cell, self._server
        if cell.state == "idle":
            self._traffic.start()
        before = list(self._traffic.answered)
        until(
            lambda: all(now > was for now, was in zip(self._traffic.answered, before, strict=True)),
            _OVER_S, "an answer for every client after the signal",
        )  # fmt: skip
        if cell.role != "master" and cell.signal is not signal.SIGTERM:
            until(lambda: not victim.is_running(), _OVER_S, "the end of the worker")
            until(lambda: "worker is back" in self._log(), _OVER_S, "another worker")
        if cell.state == "loading":
            ready = f"/v2/models/{self._name}/ready"
            until(lambda: server.get(ready)[0] == 200, _OVER_S, "the late model")
        until(lambda: server.get("/v2/health/ready")[0] == 200, _OVER_S, "readiness")
        if cell.state == "loading":
            shutil.rmtree(self._late.parent / "models" / self._name)
            until(lambda: server.get(ready)[0] == 404, _OVER_S, "the late model's end")
        self._traffic.finish()
        assert set(self._traffic.ends) == {"answered"}, self._traffic.ends
        if cell.role == "master":
            assert "worker ended" not in self._log(), "healthy workers were ended"


def _stage_worker(server: ServerProcess) -> psutil.Process:
    [found] = [p for p in server.children() if "serving.worker.stage" in p.cmdline()]
    return found


def _family_of(server: ServerProcess) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return server.children()
    return []


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
