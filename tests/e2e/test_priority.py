"""Every kind of process that a server starts gives way to the server itself."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests import models
from tests.faults.trap import POISON, trap
from tests.server import ServerProcess, serving, until

STAGES = """
from serving import register

def double(x):
    return x * 2

@register.register_method(output_names=["y"])
def twice(x):
    return register.add_stage(double, x, outputs_count=1)
"""


class Family:
    """What has been seen of a server's processes: the most niceness of each kind.

    The most, for a process gives way a moment after it was started. Linux may share cores out
    between sessions before it looks at niceness, so ``sessions`` matter too.
    """

    def __init__(self, server: ServerProcess) -> None:
        self.seen: dict[str, int] = {}
        self.sessions: set[int] = set()
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    @contextlib.contextmanager
    def watched(self) -> Iterator[dict[str, int]]:
        self._thread.start()
        try:
            yield self.seen
        finally:
            self._over.set()
            self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            for child in self._server.children():
                with contextlib.suppress(psutil.Error, ProcessLookupError):
                    words = child.cmdline()
                    kind = kind_of(words) if words else "serving"
                    if kind == "front":  # it answers clients, as the master does
                        assert child.nice() == own()
                    elif kind != "serving":  # a fork that has yet to become another program
                        self.seen[kind] = max(self.seen.get(kind, 0), child.nice())
                        self.sessions.add(os.getsid(child.pid))
            time.sleep(0.005)


def kind_of(words: list[str]) -> str:
    """Return what a process is: a worker's name without its number, or a helper's module."""
    if "--name" in words:
        return words[words.index("--name") + 1].partition("-")[0]
    return words[words.index("-m") + 1] if "-m" in words else words[0]


def own() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


@pytest.fixture(autouse=True)
def _as_users_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERVING_WORKER_NICE")


@pytest.mark.parametrize(
    ("options", "workers", "background"),
    [((), 5, 15), (("--worker-nice", "2"), 2, 12), (("--worker-nice", "0"), 0, 0)],
)
def test_workers_give_way_and_what_nobody_waits_for_gives_way_to_them(
    tmp_path: Path, options: tuple[str, ...], workers: int, background: int
) -> None:
    models.add(tmp_path / "models" / "add" / "1" / "model.onnx")
    stages = tmp_path / "models" / "twice" / "servable_config.py"
    stages.parent.mkdir()
    stages.write_text(STAGES)
    with serving(tmp_path / "models", tmp_path / "run", *options, wait=False) as server:
        family = Family(server)
        with family.watched() as seen:
            server.wait_ready()
            until(lambda: server.get("/v2/models/twice/ready")[0] == 200, 30, "the stages")
        assert seen == {
            "cpu": own() + workers,
            "stage": own() + workers,
            "trial": own() + background,
            "serving.formats.inspect": own() + background,
            "serving.register.describe": own() + background,
        }
        assert family.sessions == {os.getsid(server.pid)}
        assert psutil.Process(server.pid).nice() == own()
        assert server.stop() == 0


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 traps on this division")
def test_worker_that_tries_suspects_is_as_near_as_those_that_serve(tmp_path: Path) -> None:
    trap(tmp_path / "models" / "trap" / "1" / "model.onnx")
    together = "max_batch_size = 2\nmax_queue_delay_ms = 3000\n"
    (tmp_path / "models" / "trap" / "servable.toml").write_text(together)
    with serving(tmp_path / "models", tmp_path / "run") as server, Family(server).watched() as seen:

        def send(value: int) -> int:
            return server.predict({"servable": "trap", "instances": [{"x": value}]})[0]

        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(send, [POISON, 2])) == [500, 200]
        assert seen["apart"] == own() + 5, server.log()
