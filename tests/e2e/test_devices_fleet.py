"""Workers on devices, played by the stub: gears, load spread over all, devices that are lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.channel.messages import Load
from serving.devices import Device, Where
from serving.errors import LoadError, ServingError, Unavailable
from serving.master.places import Place, places_for
from serving.scheduling.line import Line, LineSettings
from serving.tensor import FP32, BatchAxes, Signature, Tensor, TensorSpec
from serving.worker.samples import made_up
from tests.e2e.fleet import Fleet, fleet

AXES = BatchAxes(True, "told", (0,), (0,))
ROWS = Signature((TensorSpec("x", FP32, ("n", 2)),), (TensorSpec("y", FP32, ("n", 2)),))
LOSS = 666.0


def places(workers: int, *devices: Device, absent: str = "") -> tuple[Place, ...]:
    """Return places whose devices the stub plays; those that are ``absent`` cannot be opened."""
    environment = {"SERVING_STUB_ABSENT": absent}
    return tuple(
        replace(place, backend="stub", environment=environment)
        for place in places_for(workers, devices)
    )


def gpus(*numbers: int) -> list[Device]:
    return [Device("gpu", number) for number in numbers]


def ascends(*numbers: int) -> list[Device]:
    return [Device("ascend", number) for number in numbers]


def model(folder: Path, **do: Any) -> Path:
    """Write a model that adds one, and notes which device had how many rows."""
    path = folder / "net.json"
    told = {"add": 1, "tally": str(folder / "tally"), "name_device": True, **do}
    path.write_text(json.dumps({**ROWS.to_json(), "do": told}))
    return path


def tally(folder: Path) -> list[tuple[str, int]]:
    """Return device and rows of every run."""
    lines = (folder / "tally").read_text().splitlines()
    return [(by, int(rows)) for by, what, rows in map(str.split, lines) if what == "began"]


def rows(*values: float) -> tuple[Tensor, ...]:
    array = np.array([[value, -value] for value in values], np.float32)
    return (Tensor("x", FP32, array.shape, array),)


def numbers(answer: Sequence[Tensor] | ServingError) -> list[float]:
    assert not isinstance(answer, ServingError), answer
    assert answer[0].array is not None
    assert (answer[0].array[:, 1] == 2 - answer[0].array[:, 0]).all()
    return [float(value) for value in answer[0].array[:, 0]]


def check(running: Fleet, line: Line, sizes: Sequence[int]) -> None:
    """Send requests of so many rows at once; every row must come back as its own."""
    wanted, at = [], 0
    for size in sizes:
        wanted.append([float(at + i) for i in range(size)])
        at += size
    answers = running.ask(line, [rows(*values) for values in wanted])
    assert [numbers(answer) for answer in answers] == [[v + 1 for v in row] for row in wanted]


async def until(there: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not there():
            await asyncio.sleep(0.01)


def test_workers_of_all_devices_share_the_load_and_compute_on_their_own(tmp_path: Path) -> None:
    path = model(tmp_path, sleep_ms=5)
    with fleet(0, places(1, *gpus(0, 2), *ascends(1))) as running:
        kinds = ("cpu", "gpu", "ascend")
        line = running.open(path, AXES, LineSettings(2), backend="stub", kinds=kinds)
        assert running.supervisor.holders(line.model) == ("cpu-0", "gpu-0", "gpu-2", "ascend-1")
        before = len(tally(tmp_path))
        check(running, line, [1] * 60)
        used = Counter(by for by, _ in tally(tmp_path)[before:])
        told = {s.name: s for s in running.supervisor.statistics()}
    assert set(used) == {"cpu", "gpu:0", "gpu:2", "ascend:1"}
    assert told["gpu-2"].device == "gpu:2"
    assert told["gpu-2"].runs == used["gpu:2"]
    assert sum(t.rows for t in told.values()) == 60


def test_worker_on_a_gpu_has_two_runs_at_once(tmp_path: Path) -> None:
    path = model(tmp_path, sleep_ms=300)
    with fleet(0, places(0, *gpus(0))) as running:
        line = running.open(path, AXES, LineSettings(1), backend="stub", kinds=("gpu",))
        before = len(tally(tmp_path))

        async def ask() -> None:
            tickets = [running.claim(line, rows(n)) for n in (1.0, 2.0)]
            for ticket in tickets:
                running.scheduler.commit(ticket)
            await until(lambda: len(tally(tmp_path)) == before + 2)
            assert running.scheduler.running == 2
            for ticket in tickets:
                await running.answer(ticket)

        running.run(ask())


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_rows_come_back_right_whatever_gears_the_workers_have(
    geared: tuple[Fleet, Line, Path], sizes: list[int]
) -> None:
    running, line, folder = geared
    (folder / "tally").write_text("")
    check(running, line, sizes)
    by_kind = {by.partition(":")[0] for by, _ in tally(folder)}
    assert by_kind <= {"cpu", "ascend"}
    # The stub refuses other numbers; that none was refused is seen by there being no second try.
    assert {count for by, count in tally(folder) if by != "cpu"} <= {2, 4, 8}
    assert line.statistics.failed_runs == 0


@pytest.fixture(scope="module")
def geared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("geared")
    path = model(folder, gears=[2, 4, 8], gears_on=["ascend"], sleep_ms=1)
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(fleet(0, places(1, *ascends(0, 1))))
        kinds = ("cpu", "ascend")
        line = running.open(path, AXES, LineSettings(16), backend="stub", kinds=kinds)
        yield running, line, folder


@pytest.mark.parametrize("gears", [[1, 8], [3], [4, 5]])
def test_runs_fill_up_to_the_next_gear_and_never_go_beyond_the_last(
    tmp_path: Path, gears: list[int]
) -> None:
    path = model(tmp_path, gears=gears)
    with fleet(0, places(0, *ascends(0))) as running:
        line = running.open(path, AXES, LineSettings(32), backend="stub", kinds=("ascend",))
        for sizes in ([1], [1, 1, 1], [5], [7, 9], [31], [2, 30, 1], [64]):
            check(running, line, sizes)
        assert line.statistics.failed_runs == 0
    assert {count for _, count in tally(tmp_path)} <= set(gears)


def test_worker_with_gears_that_comes_later_finds_buffers_without_room_for_filler(
    tmp_path: Path,
) -> None:
    path = model(tmp_path, gears=[8], gears_on=["ascend"], sleep_ms=20)
    with fleet(0, places(1, *ascends(0))) as running:
        line = running.open(path, AXES, LineSettings(3), backend="stub", kinds=("cpu", "ascend"))
        assert line.batches.spare == 7
        # As if no worker with gears had been there when the buffers were made.
        line.batches.spare = 0
        wanted = [[float(n)] for n in range(20)]

        async def ask() -> None:
            tickets = [running.claim(line, rows(*values)) for values in wanted]
            line.batches.spare = 7
            for ticket in tickets:
                running.scheduler.commit(ticket)
            for ticket, values in zip(tickets, wanted, strict=True):
                assert numbers(await running.answer(ticket)) == [values[0] + 1]

        running.run(ask())
        assert line.statistics.failed_runs == 0


def test_lost_device_loses_no_request_and_suspects_nobody(tmp_path: Path) -> None:
    """A request that meets the failing device runs elsewhere, with those that were beside it."""
    path = model(tmp_path, lose_on=LOSS, lose_devices=["gpu:1"], sleep_ms=2)
    with fleet(0, places(1, *gpus(0, 1))) as running:
        line = running.open(path, AXES, LineSettings(4), backend="stub", kinds=("cpu", "gpu"))
        before = {w.name: w for w in running.supervisor.workers}
        # So few that all are answered before the device is back: a request that it fails twice is
        # a suspect, as one that ends two workers is.
        values = [LOSS if n % 10 == 5 else float(n) for n in range(60)]
        end = time.monotonic() + 30
        # Which worker runs what is nobody's promise: it takes more where the others are quick.
        while not before["gpu-1"].lost:
            assert time.monotonic() < end, "gpu-1 never ran what it is lost on"
            answers = running.ask(line, [rows(value) for value in values])
            assert [numbers(answer) for answer in answers] == [[value + 1] for value in values]
            values = [*values[1:], values[0]]

        async def back() -> None:
            await until(lambda: before["gpu-1"] not in running.supervisor.workers)
            await until(lambda: len(running.supervisor.holders(line.model)) == 3)

        running.run(back())
        now = {w.name: w for w in running.supervisor.workers}
        restarts = {s.name: s.restarts for s in running.supervisor.statistics()}
        apart = running.supervisor._quarantine._count
    assert {name: now[name] is before[name] for name in now} == {
        "cpu-0": True,
        "gpu-0": True,
        "gpu-1": False,
    }
    assert restarts["gpu-1"] >= 1
    assert apart == 0


def test_request_that_must_not_run_twice_is_told_that_its_worker_was_lost(tmp_path: Path) -> None:
    path = model(tmp_path, lose_on=LOSS, lose_devices=["gpu:0"])
    with fleet(0, places(0, *gpus(0))) as running:
        line = running.open(path, AXES, LineSettings(4), backend="stub", kinds=("gpu",))
        running.scheduler._terms[line.model] = replace(
            running.scheduler._terms[line.model], idempotent=False
        )
        (answer,) = running.ask(line, [rows(LOSS)])
        assert isinstance(answer, Unavailable)
        assert answer.code == "worker_lost"
        running.run(until(lambda: not running.scheduler.running))  # its worker is reaped


def test_server_does_not_start_without_a_device_that_was_named() -> None:
    with (
        pytest.raises(Unavailable, match="gpu:1 cannot be used: .*gpu:1 does not answer"),
        fleet(0, places(1, *gpus(0, 1), absent="gpu:1")),
    ):
        pass


def test_place_of_a_device_that_cannot_be_had_is_down_and_the_others_serve(tmp_path: Path) -> None:
    where = [replace(place, required=False) for place in places(1, *gpus(0, 1), absent="gpu:1")]
    with fleet(0, where) as running:
        path = model(tmp_path)
        line = running.open(path, AXES, LineSettings(4), backend="stub", kinds=("cpu", "gpu"))
        check(running, line, [1, 2, 3])
        told = {s.name: s for s in running.supervisor.statistics()}
    assert "gpu:1 does not answer" in told["gpu-1"].down
    assert told["gpu-1"].usage is None
    assert told["gpu-0"].down == told["cpu-0"].down == ""


def test_model_is_tried_out_on_the_next_device_when_one_is_lost(tmp_path: Path) -> None:
    """A lost device says nothing about the model."""
    path = model(tmp_path, lose_on=first_made_up(), lose_devices=["gpu:0"])
    order = Load(1, "net", str(path), "stub", AXES.to_json(), True, 4, 1, True)
    with fleet(0, places(0, *gpus(0, 1))) as running:
        loaded = running.run(running.supervisor.try_out(order, 60, Where("gpu")))
        assert BatchAxes.from_json(loaded.batch).batched
        assert {by for by, _ in tally(tmp_path)} == {"gpu:0", "gpu:1"}
        with pytest.raises(LoadError, match="its device gpu:0 was lost: gpu:0 fell off the bus"):
            running.run(running.supervisor.try_out(order, 60, Where("gpu", (0,))))


def first_made_up() -> float:
    """Return a value of the row that a model is warmed with where none is given."""
    row = made_up(ROWS.inputs[0], (2,), 0)
    assert row.array is not None
    return float(row.array[0])


def test_lone_caller_is_answered_by_the_fastest_device_and_load_by_all(tmp_path: Path) -> None:
    path = model(tmp_path, sleep_ms={"cpu": 200, "gpu": 3})
    with fleet(0, places(1, *gpus(0))) as running:
        line = running.open(path, AXES, LineSettings(8), backend="stub", kinds=("cpu", "gpu"))
        before = len(tally(tmp_path))
        for _ in range(20):
            check(running, line, [1])
        alone = Counter(by for by, _ in tally(tmp_path)[before:])
        assert alone["cpu"] <= 4  # that is how it was found out
        before = len(tally(tmp_path))
        check(running, line, [1] * 100)
        together = tally(tmp_path)[before:]
        assert {by for by, _ in together} == {"cpu", "gpu:0"}
        assert max(rows for by, rows in together if by == "cpu") < 8
