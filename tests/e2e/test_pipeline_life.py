"""The life of servables with Python functions: new code under load, lost workers, the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests import servables
from tests.server import ServerProcess, serving, until

CLIENTS = 24
CODE = """
import os
from mindspore_serving.server import register
from .tag import TAG


def first(x):
    return x, TAG


def second(x, tag):
    return x * 2, tag, TAG, os.getpid()


@register.register_method(output_names=["y", "first", "second", "pid"])
def double(x):
    x, tag = register.add_stage(first, x, outputs_count=2)
    return register.add_stage(second, x, tag, outputs_count=4)
"""


def write(folder: Path, tag: int, *, code: str = CODE, workers: int = 1) -> None:
    """Write a servable; what is there already is replaced file by file, each at once."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"tag.py": f"TAG = {tag}\n", "servable_config.py": code}
    if workers > 1:
        files["servable.toml"] = f"[stages]\nworkers = {workers}\n"
    for name, text in files.items():
        draft = folder / f".{name}.part"
        draft.write_text(text)
        draft.replace(folder / name)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def start(models: Path, tmp_path: Path) -> Iterator[Callable[[], ServerProcess]]:
    """Return a function that starts the server, once the servables are written."""
    with contextlib.ExitStack() as running:

        def begin() -> ServerProcess:
            return running.enter_context(
                serving(models, tmp_path / "scratch", "--poll-interval-s", "0.1")
            )

        yield begin


def stage_workers(server: ServerProcess) -> list[psutil.Process]:
    found = []
    for child in server.children():
        with contextlib.suppress(psutil.Error):
            if "serving.worker.stage" in child.cmdline():
                found.append(child)
    return found


@dataclass
class Answers:
    """What clients were told: answers by their tags, and what was no proper answer."""

    proper: Counter[tuple[int, int]] = field(default_factory=Counter)
    pids: Counter[int] = field(default_factory=Counter)
    wrong: list[Any] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.proper.total()


async def under_load(
    server: ServerProcess, name: str, during: Callable[[Answers], Awaitable[None]]
) -> Answers:
    """Let clients ask without a pause while ``during`` runs; none of them tries anything again."""
    answers, stop = Answers(), asyncio.Event()

    async def client(number: int) -> None:
        async with httpx.AsyncClient(base_url=server.base, timeout=60) as http:
            while not stop.is_set():
                told = await http.post(
                    f"/model/{name}:double", json={"instances": [{"x": number}, {"x": -number}]}
                )
                instances = told.json().get("instances", [])
                if [i.get("y") for i in instances] != [number * 2, number * -2]:
                    answers.wrong.append(told.json())
                    continue
                for instance in instances:
                    answers.proper[instance["first"], instance["second"]] += 1
                    answers.pids[instance["pid"]] += 1

    clients = [asyncio.create_task(client(number)) for number in range(1, CLIENTS + 1)]
    try:
        await during(answers)
    finally:
        stop.set()
        await asyncio.gather(*clients)
    return answers


async def rises(count: Callable[[], int], by: int, what: str) -> None:
    wanted, limit = count() + by, time.monotonic() + 30
    while count() < wanted:
        assert time.monotonic() < limit, f"waited 30 s for {what}"
        await asyncio.sleep(0.02)


def row(server: ServerProcess, name: str) -> dict[str, Any]:
    _, rows = server.post("/v2/repository/index", {})
    (found,) = [r for r in rows if r["name"] == name]
    return dict(found)


async def test_new_code_takes_over_under_load_without_a_failure_or_a_mix(
    models: Path, start: Callable[[], ServerProcess]
) -> None:
    write(models / "m", 1)
    server = start()

    async def updates(answers: Answers) -> None:
        await rises(lambda: answers.proper[1, 1], 100, "answers of the first code")
        for tag in (2, 3):
            write(models / "m", tag)
            await rises(lambda tag=tag: answers.proper[tag, tag], 100, f"answers of {tag}")  # type: ignore[misc]

    answers = await under_load(server, "m", updates)
    assert answers.wrong == []
    assert set(answers.proper) == {(1, 1), (2, 2), (3, 3)}
    until(lambda: len(stage_workers(server)) == 1, 10, "the old generations' workers to leave")


async def test_code_that_does_not_import_leaves_the_old_one_serving(
    models: Path, start: Callable[[], ServerProcess]
) -> None:
    write(models / "m", 1)
    server = start()

    async def updates(answers: Answers) -> None:
        await rises(lambda: answers.total, 50, "answers")
        write(models / "m", 2, code="import no_such_package\n")
        limit = time.monotonic() + 20
        while "no_such_package" not in (await asyncio.to_thread(row, server, "m"))["reason"]:
            assert time.monotonic() < limit
            await asyncio.sleep(0.05)
        await rises(lambda: answers.total, 100, "answers of the old code")
        write(models / "m", 3)
        await rises(lambda: answers.proper[3, 3], 50, "answers of the mended code")

    answers = await under_load(server, "m", updates)
    assert answers.wrong == []
    assert set(answers.proper) == {(1, 1), (3, 3)}
    assert row(server, "m")["reason"] == ""


async def test_worker_that_is_killed_under_load_costs_no_request(
    models: Path, start: Callable[[], ServerProcess]
) -> None:
    write(models / "m", 1, workers=2)
    server = start()

    async def kills(answers: Answers) -> None:
        for _ in range(3):
            await rises(lambda: answers.total, 100, "answers")
            both = lambda: len(stage_workers(server)) == 2  # noqa: E731
            await asyncio.to_thread(until, both, 20, "two workers")
            os.kill(stage_workers(server)[0].pid, signal.SIGKILL)
        await rises(lambda: answers.total, 100, "answers after the last kill")

    answers = await under_load(server, "m", kills)
    assert answers.wrong == []
    assert set(answers.proper) == {(1, 1)}
    assert len(answers.pids) >= 3


async def test_last_worker_that_is_killed_is_replaced(
    models: Path, start: Callable[[], ServerProcess]
) -> None:
    write(models / "m", 1)
    server = start()

    async def kill(answers: Answers) -> None:
        await rises(lambda: answers.total, 100, "answers")
        (worker,) = stage_workers(server)
        worker.kill()
        await rises(lambda: len(answers.pids), 1, "answers of another process")

    answers = await under_load(server, "m", kill)
    assert answers.wrong == []


def test_unload_ends_the_processes_of_a_servable(
    models: Path, start: Callable[[], ServerProcess]
) -> None:
    write(models / "m", 1, workers=3)
    write(models / "other", 1)
    server = start()
    assert len(stage_workers(server)) == 4
    shutil.rmtree(models / "m")
    until(lambda: len(stage_workers(server)) == 1, 20, "the workers to leave")
    status, _ = server.post("/model/other:double", {"instances": [{"x": 1}]})
    assert status == 200


def test_no_stage_worker_outlives_a_master_that_is_killed(
    models: Path, start: Callable[[], ServerProcess]
) -> None:
    write(models / "m", 1, workers=2)
    server = start()
    workers = stage_workers(server)
    assert len(workers) == 2
    server.process.kill()
    server.process.wait()
    until(lambda: not any(worker.is_running() for worker in workers), 10, "the workers to end")


async def test_stop_answers_what_was_accepted(
    models: Path, start: Callable[[], ServerProcess]
) -> None:
    slow = "import time\n" + CODE.replace(
        "    return x, TAG", "    time.sleep(1)\n    return x, TAG"
    )
    write(models / "m", 1, code=slow)
    server = start()
    asked = asyncio.create_task(
        asyncio.to_thread(server.post, "/model/m:double", {"instances": [{"x": 4}]})
    )
    await asyncio.sleep(0.3)
    stopped = asyncio.create_task(asyncio.to_thread(server.stop))
    status, told = await asked
    assert (status, told["instances"][0]["y"]) == (200, 8)
    assert await stopped == 0


def test_import_error_names_file_and_line(models: Path, start: Callable[[], ServerProcess]) -> None:
    write(models / "good", 1)
    write(models / "bad", 1, code="x = 1\n\nx.nothing\n")
    server = start()
    reason = row(server, "bad")["reason"]
    assert reason.startswith("bad/servable_config.py:3: AttributeError"), reason
    assert row(server, "good")["state"] == "READY"
    status, _ = server.get("/v2/health/ready")
    assert status == 200


def test_version_with_one_bad_model_fails_and_the_one_before_goes_on(
    models: Path, start: Callable[[], ServerProcess]
) -> None:
    servables.lay_out(models, ["add_sub"])
    server = start()
    shutil.copytree(models / "add_sub" / "1", models / "draft")
    (models / "draft" / "tensor_sub.onnx").write_bytes(b"this is no model")
    (models / "draft").rename(models / "add_sub" / "2")

    def rows() -> dict[str, dict[str, Any]]:
        _, told = server.post("/v2/repository/index", {})
        return {row["version"]: row for row in told}

    until(lambda: rows().get("2", {}).get("state") == "UNAVAILABLE", 20, "version 2 to fail")
    assert rows()["2"]["reason"].startswith("tensor_sub.onnx: "), rows()
    assert rows()["1"]["state"] == "READY"
    grid = [[1.5, 2.5], [3.5, 4.5]]
    instance = {"x1": grid, "x2": grid, "x3": grid}
    _, told = server.post("/model/add_sub:add_sub_only_model", {"instances": [instance]})
    assert told == {"instances": [{"y": grid}]}


def test_load_and_unload_by_request(models: Path, tmp_path: Path) -> None:
    write(models / "m", 1)
    with serving(models, tmp_path / "scratch", "--model-control", "explicit") as server:
        assert stage_workers(server) == []
        for tag in (1, 2):
            write(models / "m", tag)
            status, told = server.post("/v2/repository/models/m/load", {})
            assert status == 200, told
            _, told = server.post("/model/m:double", {"instances": [{"x": 4}]})
            assert (told["instances"][0]["y"], told["instances"][0]["first"]) == (8, tag)
        write(models / "m", 3, code="1 / 0\n")
        status, told = server.post("/v2/repository/models/m/load", {})
        assert status != 200
        assert "m/servable_config.py:1: ZeroDivisionError" in str(told)
        _, told = server.post("/model/m:double", {"instances": [{"x": 4}]})
        assert told["instances"][0]["first"] == 2
        status, _ = server.post("/v2/repository/models/m/unload", {})
        assert status == 200
        until(lambda: stage_workers(server) == [], 10, "the worker to leave")
