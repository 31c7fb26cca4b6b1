"""The first worker's process begins early, is taken over once, or ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.channel.link import BlockingLink
from serving.channel.messages import Hello, Stop
from serving.channel.messages.wire import encode
from serving.config import BackendSettings, ServerSettings
from serving.devices import Device
from serving.master import headstart
from serving.master.worker_process import WorkerProcess, words_for
from serving.repository.interpreter import environment
from tests.server import until

WORDS = ("cpu-0", "info", sys.executable, Device("cpu", 0), "")


@pytest.fixture
def begun() -> Iterator[list[WorkerProcess]]:
    processes: list[WorkerProcess] = headstart._begun
    assert not processes
    yield processes
    for each in processes:
        end(each)
    processes.clear()


def end(begun: WorkerProcess) -> None:
    begun.process.kill()
    begun.process.communicate()
    for link in (begun.control, *begun.runs):
        link.close()


def settings(**changed: Any) -> ServerSettings:
    return ServerSettings(model_dir=Path("models"), busy_poll_us=0, **changed)


def test_process_that_began_early_is_the_worker_that_was_to_be_started(
    begun: list[WorkerProcess],
) -> None:
    headstart.begin(settings())
    taken = headstart.take(words_for(*WORDS), environment())
    assert taken is not None
    try:
        taken.control.settimeout(30)
        hello, _ = BlockingLink(taken.control).receive()
        assert isinstance(hello, Hello)
        assert hello.pid == taken.process.pid == os.getpgid(taken.process.pid)
        assert headstart.take(words_for(*WORDS), environment()) is None, "there is but one"
        taken.control.send(encode(Stop()))
        assert taken.process.wait(30) == 0
    finally:
        end(taken)


def test_process_for_other_words_waits_and_one_for_another_environment_ends(
    begun: list[WorkerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    headstart.begin(settings())
    (process,) = [each.process for each in begun]
    other = words_for("cpu-1", *WORDS[1:])
    assert headstart.take(other, environment()) is None
    assert process.poll() is None
    monkeypatch.setenv("SERVING_TEST_CHANGED", "1")
    assert headstart.take(words_for(*WORDS), environment()) is None
    assert process.returncode is not None
    assert not begun


def test_process_that_nobody_takes_over_is_gone_after_the_end(begun: list[WorkerProcess]) -> None:
    headstart.begin(settings())
    (process,) = [each.process for each in begun]
    headstart.end()
    assert process.returncode is not None
    assert not begun


@pytest.mark.parametrize(
    "changed",
    [{"devices": "gpu:0"}, {"backends": {"onnxruntime": BackendSettings("/usr/bin/python3")}}],
)
def test_worker_of_another_device_or_environment_has_no_head_start(
    begun: list[WorkerProcess], changed: dict[str, Any]
) -> None:
    headstart.begin(settings(**changed))
    assert not begun


def test_process_that_nobody_takes_over_ends_with_the_one_that_began_it() -> None:
    program = (
        "from pathlib import Path; from serving.config import ServerSettings;"
        "from serving.master import headstart;"
        "headstart.begin(ServerSettings(model_dir=Path('models')));"
        "print(headstart._begun[0].process.pid, flush=True)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    until(lambda: not Path(f"/proc/{int(ended.stdout)}").exists(), 20, "the worker's end")


def test_numpy_is_imported_without_threads_of_its_own_and_nobody_is_told() -> None:
    program = (
        "import os; from serving.repository.interpreter import import_numpy; import_numpy();"
        "print(len(os.listdir('/proc/self/task')), 'OPENBLAS_NUM_THREADS' in os.environ)"
    )
    surroundings = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    told = subprocess.run(
        [sys.executable, "-c", program],
        env=surroundings, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert told.stdout.split() == ["1", "False"]


def test_number_of_threads_that_somebody_has_set_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert environment()["OPENBLAS_NUM_THREADS"] == "1"
    assert environment({"OPENBLAS_NUM_THREADS": "3"})["OPENBLAS_NUM_THREADS"] == "3"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert environment()["OPENBLAS_NUM_THREADS"] == "2"
