"""A worker on a device: what its backend is lent, whose turn it is, how a lost device is told."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.backends.base import BackendError, Device, DeviceLost
from serving.backends.stub import Stub, StubModel
from serving.channel.link import BlockingLink, pair
from serving.channel.messages import DeviceGone, Hello, Lend, Load, Loaded, LoadFailed, Stop
from serving.channel.segment import Segment
from serving.tensor import FP32, BatchAxes, Signature, Tensor, TensorSpec
from serving.warmup import ZEROS, WarmUp
from serving.worker.host import Host
from serving.worker.loop import _in_turn
from serving.worker.memory import Mappings
from serving.worker.samples import made_up
from tests.server import until

ROWS = Signature((TensorSpec("x", FP32, ("n",)),), (TensorSpec("y", FP32, ("n",)),))
AXES = BatchAxes(True, "told", (0,), (0,))
GPU = Device("gpu", 3)


def order(folder: Path, prove: bool = True, **do: Any) -> Load:
    path = folder / "net.json"
    path.write_text(json.dumps({**ROWS.to_json(), "do": do}))
    return Load(1, "net", str(path), "stub", AXES.to_json(), True, 8, 1, prove)


@pytest.fixture
def segments() -> Iterator[list[Segment]]:
    made = [Segment.create(n, 4096 * n, writable_elsewhere=n % 2 == 0) for n in (1, 2, 3)]
    yield made
    for segment in made:
        segment.close()


def lend(mappings: Mappings, segment: Segment) -> None:
    message = Lend(segment.id, segment.size, segment.writable_elsewhere)
    mappings.lend(message, os.dup(segment.fd))


def test_backend_learns_of_every_segment_for_as_long_as_it_is_mapped(
    segments: list[Segment],
) -> None:
    mappings, backend = Mappings(), Stub(GPU)
    lend(mappings, segments[0])
    mappings.join(backend)
    lend(mappings, segments[1])
    lend(mappings, segments[1])  # to the other slot: it is lent once
    assert sorted(backend.lent.values()) == [4096, 8192]
    address = mappings.get(2).address
    assert backend.lent[address] == 8192
    mappings.forget(2)
    assert address in backend.lent
    mappings.forget(2)
    assert list(backend.lent.values()) == [4096]
    mappings.forget(1)
    assert backend.lent == {}


class Reluctant(Stub):
    """Registers nothing: out of memory, or with the device gone."""

    def __init__(self, error: BackendError) -> None:
        super().__init__(GPU)
        self.error = error

    def lend(self, address: int, nbytes: int, *, writable: bool) -> None:
        raise self.error


def test_segment_that_cannot_be_registered_is_used_all_the_same(segments: list[Segment]) -> None:
    mappings = Mappings()
    mappings.join(Reluctant(BackendError("no more pinned memory")))
    lend(mappings, segments[0])
    assert mappings.get(1).size == 4096
    mappings.forget(1)


def test_device_that_is_lost_while_it_is_lent_memory_is_told(segments: list[Segment]) -> None:
    mappings = Mappings()
    mappings.join(Reluctant(DeviceLost("gone")))
    with pytest.raises(DeviceLost):
        lend(mappings, segments[0])


def test_host_opens_a_backend_on_its_device_and_hands_options_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(Stub, "load", lambda self, source: seen.append((self._device, source)))
    told = order(tmp_path)
    told.options["precision"] = "fp16"
    Host(GPU).load(told, lambda _: None)
    ((device, source),) = seen
    assert device == GPU
    assert source.options == {"precision": "fp16"}


def test_host_tells_the_gears_and_warms_and_proves_with_them(tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    loaded = Host(GPU).load(order(tmp_path, gears=[4, 8], tally=str(tally)), lambda _: None)
    assert isinstance(loaded, Loaded), loaded
    assert loaded.gears == (4, 8)
    assert BatchAxes.from_json(loaded.batch).batched
    assert set(tally.read_text().split("began ")[1:]) == {"4\n"}


def test_load_that_loses_the_device_is_no_failure_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise DeviceLost("fell off the bus")

    monkeypatch.setattr(Stub, "load", gone)
    with pytest.raises(DeviceLost):
        Host(GPU).load(order(tmp_path), lambda _: None)


def test_model_that_fails_while_it_is_warmed_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Any] = []
    monkeypatch.setattr(StubModel, "close", lambda self: closed.append(self))
    wrong = order(tmp_path)
    claim = BatchAxes(True, "told", (0, 0), (0,)).to_json()
    failed = Host(GPU).load(Load(**{**wrong.__dict__, "batch": claim}), lambda _: None)
    assert isinstance(failed, LoadFailed)
    assert len(closed) == 1


@pytest.mark.parametrize(("kind", "links", "most"), [("gpu", 2, 2), ("ascend", 2, 1)])
def test_backend_has_no_more_runs_at_once_than_it_takes(
    tmp_path: Path, kind: str, links: int, most: int
) -> None:
    host = Host(Device(kind), slots=links)
    host.load(order(tmp_path, prove=False, sleep_ms=150, tally=str(tmp_path / "t")), lambda _: None)
    hosted = host.get(1)
    (tmp_path / "t").write_text("")
    threads = [threading.Thread(target=_in_turn, args=(hosted, bound(hosted))) for _ in range(2)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    until(lambda: (tmp_path / "t").read_text().count("began") == most, 5, "the runs")
    for thread in threads:
        thread.join(5)
    took_s = time.monotonic() - began
    assert (took_s > 0.29) is (most == 1)


def bound(hosted: Any) -> Any:
    x = np.zeros(1, np.float32)
    return hosted.model.bind([Tensor("x", FP32, (1,), x)], None)


# -- the process -------------------------------------------------------------------------------


@pytest.fixture
def link() -> Iterator[Any]:
    """Start workers with a control link and no run link; afterwards they are gone."""
    started: list[tuple[subprocess.Popen[str], socket.socket]] = []

    def start(environment: dict[str, str]) -> tuple[subprocess.Popen[str], BlockingLink]:
        ours, theirs = pair()
        ours.settimeout(30)
        process = subprocess.Popen(
            [
                sys.executable, "-m", "serving.worker", "--master", str(os.getpid()),
                "--control-fd", str(theirs.fileno()), "--device", "gpu", "--device-index", "3",
                "--backend", "stub",
            ],
            pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True,
            env={**os.environ, **environment},
        )  # fmt: skip
        theirs.close()
        started.append((process, ours))
        return process, BlockingLink(ours)

    yield start
    for process, ours in started:
        process.kill()
        process.communicate()
        ours.close()


def test_worker_whose_device_cannot_be_had_says_why_and_leaves(link: Any) -> None:
    process, control = link({"SERVING_STUB_ABSENT": "gpu:3"})
    assert control.receive()[0] is None
    _, said = process.communicate(timeout=30)
    assert process.returncode == 75
    assert said.splitlines()[-1] == "gpu:3 does not answer"


def test_worker_says_hello_with_the_versions_of_its_backend_and_stops(link: Any) -> None:
    process, control = link({})
    hello, _ = control.receive()
    assert isinstance(hello, Hello)
    assert hello.versions["stub"] == "1"
    control.send(Stop())
    assert process.wait(30) == 0


@pytest.mark.parametrize("how", ["made up", "proof", "warm-up"])
def test_worker_that_loses_its_device_while_loading_says_so_and_ends(
    link: Any, tmp_path: Path, how: str
) -> None:
    process, control = link({})
    control.receive()
    lost = 0.0 if how == "warm-up" else first(how)
    told = order(tmp_path, prove=how == "proof", lose_on=lost, lose_devices=["gpu:3"])
    warmup = [WarmUp(name="zeros", values=ZEROS).to_json()] if how == "warm-up" else []
    control.send(Load(**{**told.__dict__, "warmup": warmup}))
    while not isinstance(message := control.receive()[0], DeviceGone):
        assert message is not None
        assert not isinstance(message, (Loaded, LoadFailed))
    assert message.reason == "gpu:3 fell off the bus"
    assert process.wait(30) == 75


def first(how: str) -> float:
    """Return the value of the row that is run first, or of the one that only the proof runs."""
    row = made_up(ROWS.inputs[0], (), 1 if how == "proof" else 0)
    assert row.array is not None
    return float(row.array)
