"""A server that follows its model directory: new, changed, bad and deleted versions, under load."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from serving.cli import main
from tests import models
from tests.e2e.load import Answers, under_load
from tests.server import ServerProcess, call, serving, until

CLIENTS = 64
INTERVAL_S = "0.1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the model directory; each test has servables of its own in it."""
    folder = tmp_path_factory.mktemp("repository") / "models"
    for name in ("swapped", "guarded", "kept", "a"):
        models.tagged(folder / name / "1" / "model.onnx", 1)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with serving(folder, folder.parent / "scratch", "--poll-interval-s", INTERVAL_S) as running:
        yield running


def put(folder: Path, version: int, write: Callable[[Path], Any]) -> None:
    """Put a version in place at once, as a careful operator does: written beside, then renamed."""
    draft = folder.parent / f"draft-{version}"
    draft.mkdir()
    write(draft / "model.onnx")
    draft.rename(folder / str(version))


def index(server: ServerProcess, servable: str) -> dict[str, tuple[str, str]]:
    """Return state and reason of each version of a servable."""
    status, rows = server.post("/v2/repository/index", {})
    assert status == 200
    return {r["version"]: (r["state"], r["reason"]) for r in rows if r["name"] == servable}


async def eventually(there: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + 20
    while not there():
        assert time.monotonic() < limit, f"waited 20 s for {what}"
        await asyncio.sleep(0.02)


async def answered(answers: Answers, key: tuple[int, float]) -> None:
    """Wait until enough answers came from one version to say that requests go there."""
    wanted = answers.proper[key] + 2 * CLIENTS
    await eventually(lambda: answers.proper[key] >= wanted, f"answers of {key}")


async def test_hot_update_under_load_fails_no_request_and_mixes_no_versions(
    server: ServerProcess, folder: Path
) -> None:
    async def updates(answers: Answers) -> None:
        await answered(answers, (1, 1.0))
        put(folder / "swapped", 2, lambda file: models.tagged(file, 2))
        await answered(answers, (2, 2.0))
        for tag in (3.0, 4.0):  # the same number, other content
            models.tagged(folder / "next.part", tag)
            (folder / "next.part").replace(folder / "swapped" / "2" / "model.onnx")
            await answered(answers, (2, tag))
        shutil.rmtree(folder / "swapped" / "2")
        await answered(answers, (1, 1.0))
        put(folder / "swapped", 3, lambda file: models.tagged(file, 5))
        await answered(answers, (3, 5.0))

    answers = await under_load(server, "swapped", CLIENTS, updates)
    assert answers.wrong == []
    # Nothing but what was put there, each number with its own content.
    assert set(answers.proper) == {(1, 1.0), (2, 2.0), (2, 3.0), (2, 4.0), (3, 5.0)}
    # Only the newest is wanted, so the others have been let go of.
    until(lambda: list(index(server, "swapped")) == ["3"], 20, "the old ones to be unloaded")
    assert server.log().count("unloaded servable=swapped") == 5


async def test_hot_update_with_a_bad_version_under_load_fails_no_request_and_says_why(
    server: ServerProcess, folder: Path
) -> None:
    def reason() -> str:
        state, told = index(server, "guarded").get("2", ("", ""))
        return told if state == "UNAVAILABLE" else ""

    async def drop(answers: Answers) -> None:
        put(folder / "guarded", 2, models.truncated)
        loop = asyncio.get_running_loop()
        limit = time.monotonic() + 20
        while not await loop.run_in_executor(None, reason):
            assert time.monotonic() < limit
            await asyncio.sleep(0.05)
        await answered(answers, (1, 1.0))

    answers = await under_load(server, "guarded", CLIENTS, drop)
    assert answers.wrong == []
    assert set(answers.proper) == {(1, 1.0)}
    why = reason()
    assert why in server.log()
    shown = CliRunner().invoke(main, ["status", "--url", server.base])
    assert shown.exit_code == 0
    assert " ".join(why.split()) in " ".join(shown.output.split())
    assert "the server is ready" in shown.output
    # Corrected files are noticed and tried again.
    models.tagged(folder / "guarded" / "2" / "model.onnx", 2)
    until(lambda: list(index(server, "guarded")) == ["2"], 20, "the corrected version")


def test_hot_update_keeps_a_version_whose_files_turn_bad_and_says_so(
    server: ServerProcess, folder: Path
) -> None:
    models.garbage(folder / "kept" / "1" / "model.onnx")
    until(lambda: index(server, "kept")["1"][1] != "", 20, "the trouble in the index")
    state, reason = index(server, "kept")["1"]
    assert state == "READY"
    assert "what was loaded before goes on" in reason
    assert server.predict({"servable": "kept", "instances": [{"x": 2.0}]})[1]["instances"] == [
        {"tag": 1.0, "sum": 3.0}
    ]
    assert server.get("/v2/health/ready")[0] == 200


def test_hot_update_follows_servables_settings_and_links(
    server: ServerProcess, folder: Path
) -> None:
    for name in ("b", "c"):
        models.tagged(folder / name / "1" / "model.onnx", 7)
    models.tagged(folder / "bare.onnx", 8)
    new = ("b", "c", "bare")
    until(lambda: all(index(server, n) == {"1": ("READY", "")} for n in new), 20, "all servables")
    # Settings are applied; broken ones are named and change nothing.
    assert server.get("/v2/models/a")[1]["properties"]["max_batch_size"] == "32"
    (folder / "a" / "servable.toml").write_text("max_batch_size = 4\n")
    until(
        lambda: server.get("/v2/models/a")[1]["properties"]["max_batch_size"] == "4", 20, "settings"
    )
    (folder / "a" / "servable.toml").write_text("max_bach_size = 8\n")
    until(lambda: "did you mean 'max_batch_size'" in index(server, "a")["1"][1], 20, "the reason")
    (folder / "a" / "servable.toml").unlink()
    until(
        lambda: server.get("/v2/models/a")[1]["properties"]["max_batch_size"] == "32", 20, "default"
    )
    assert index(server, "a")["1"] == ("READY", "")
    # A link that is switched is another version's content.
    models.tagged(folder / ".store" / "new" / "model.onnx", 9)
    os.symlink(folder / ".store" / "new", folder / "link")
    shutil.rmtree(folder / "b" / "1")
    (folder / "link").rename(folder / "b" / "1")
    ask = {"servable": "b", "instances": [{"x": 0.0}]}
    until(lambda: server.predict(ask)[1]["instances"][0]["tag"] == 9.0, 20, "the linked content")
    shutil.rmtree(folder / "c")
    (folder / "bare.onnx").unlink()
    until(lambda: not index(server, "c") and not index(server, "bare"), 20, "two to be gone")
    assert server.predict({"servable": "c", "instances": [{"x": 0.0}]})[0] == 404
    assert server.get("/v2/health/ready")[0] == 200


def test_hot_update_survives_its_worker(server: ServerProcess, folder: Path) -> None:
    ask = {"servable": "restarted", "instances": [{"x": 0.0}]}
    for tag in (1.0, 2.0):
        models.tagged(folder / "restarted" / "1" / "model.onnx", tag)
        until(
            lambda: server.predict(ask)[1].get("instances") == [{"tag": tag, "sum": tag}],  # noqa: B023
            20,
            f"the model with tag {tag}",
        )
    (worker,) = server.workers()
    worker.kill()
    worker.wait(10)
    until(lambda: server.workers() != [], 20, "another worker")
    status, told = server.predict(ask)
    assert (status, told["instances"]) == (200, [{"tag": 2.0, "sum": 2.0}])


def test_hot_update_off_leaves_all_as_it_was_at_the_start(folder: Path, tmp_path: Path) -> None:
    models.tagged(folder / "m" / "1" / "model.onnx", 1)
    options = ("--model-control", "none", "--poll-interval-s", INTERVAL_S)
    with serving(folder, tmp_path / "scratch", *options) as server:
        models.tagged(folder / "m" / "2" / "model.onnx", 2)
        time.sleep(0.6)
        assert list(index(server, "m")) == ["1"]
        status, told = call("POST", server.base + "/v2/repository/models/m/load", {})
    assert status == 400
    assert "--model-control explicit" in told["error"]


def test_hot_update_makes_a_server_ready_once_a_copy_is_complete(tmp_path: Path) -> None:
    folder, scratch = tmp_path / "models", tmp_path / "scratch"
    models.garbage(folder / "m" / "1" / "model.onnx")
    whole = models.mlp(tmp_path / "whole.onnx", hidden=4096).read_bytes()
    interval_s, parts = 0.7, 60
    with serving(folder, scratch, "--poll-interval-s", str(interval_s), wait=False) as server:
        until(lambda: "the ready file is not written" in server.log(), 30, "the first look")
        (folder / "m" / "2").mkdir()
        with (folder / "m" / "2" / "model.onnx").open("wb", buffering=0) as copy:
            for at in range(0, len(whole), -(-len(whole) // parts)):
                copy.write(whole[at : at + -(-len(whole) // parts)])
                time.sleep(3 * interval_s / parts)
                assert "version=2" not in server.log()
        assert not (scratch / "ready.json").exists()
        server.wait_ready()
        status, told = server.get("/v2/models/m")
        assert (status, told["versions"]) == (200, ["2"])
        assert not re.search("cannot serve.*version=2", server.log())


def test_hot_update_in_turn_holds_one_version_at_a_time_and_goes_back_to_the_last_good(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "models"
    models.tagged(folder / "single" / "1" / "model.onnx", 1)
    (folder / "single" / "servable.toml").write_text('update = "in_turn"\n')

    def tag() -> float | None:
        status, answer = server.predict({"servable": "single", "instances": [{"x": 0.0}]})
        return answer["instances"][0]["tag"] if status == 200 else None

    with serving(folder, tmp_path / "scratch", "--poll-interval-s", INTERVAL_S) as server:
        assert tag() == 1.0
        put(folder / "single", 2, lambda file: models.tagged(file, 2))
        until(lambda: tag() == 2.0, 20, "the second version")
        log = server.log()
        assert log.index("unloaded") < log.index("loading", log.index("unloaded"))
        put(folder / "single", 3, lambda file: file.write_bytes(b"no model"))
        until(lambda: index(server, "single").get("3", ("", ""))[0] == "UNAVAILABLE", 20, "3")
        until(lambda: tag() == 2.0, 20, "the second version again")
        assert index(server, "single")["2"][0] == "READY"
