"""Samples that a version runs before it is READY: from its settings or Triton's, and bad ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import models
from tests.e2e.test_hot_update import INTERVAL_S, index
from tests.server import ServerProcess, serving, until

BAD_ID = 11
"""``models.picky`` fails on ids from 10 on."""


def sample(folder: Path, file: str, ids: list[int]) -> None:
    (folder / file).write_text(json.dumps({"instances": [{"id": id} for id in ids]}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("warm") / "models"
    for name in ("good", "refused", "allowed", "absent", "wished", "triton", "kept"):
        models.picky(folder / name / "1" / "model.onnx")
    models.divider(folder / "deadly" / "1" / "model.onnx")
    settings = {
        "good": '[[warmup]]\nfile = "morning.json"\ncount = 3\n[[warmup]]\ngenerate = true\n',
        "refused": '[[warmup]]\nname = "night"\nfile = "morning.json"\n',
        "allowed": '[[warmup]]\nfile = "morning.json"\nrequired = false\n',
        "absent": '[[warmup]]\nfile = "gone.json"\n',
        "wished": '[[warmup]]\nfile = "gone.json"\nrequired = false\n[[warmup]]\ngenerate = true\n',
        "deadly": '[[warmup]]\nfile = "morning.json"\n',
    }
    for name, text in settings.items():
        (folder / name / "servable.toml").write_text(text)
    width = 3
    for name, ids in (("good", 5), ("refused", BAD_ID), ("allowed", BAD_ID)):
        sample(folder / name, "morning.json", [ids] * width)
    (folder / "deadly" / "morning.json").write_text('{"instances": [{"x": [-1]}]}')
    (folder / "triton" / "config.pbtxt").write_text(
        'model_warmup { name: "bytes" count: 2 batch_size: 1 inputs { key: "id" value {'
        ' data_type: TYPE_INT64 dims: [ 3 ] input_data_file: "ids" } } }'
    )
    (folder / "triton" / "warmup").mkdir()
    (folder / "triton" / "warmup" / "ids").write_bytes(np.full(3, BAD_ID).tobytes())
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with serving(folder, folder.parent / "scratch", "--poll-interval-s", INTERVAL_S) as running:
        yield running


def state(server: ServerProcess, name: str) -> tuple[str, str]:
    return index(server, name)["1"]


def test_warmup_that_runs_leaves_no_word(server: ServerProcess) -> None:
    assert state(server, "good") == ("READY", "")


def test_warmup_that_fails_keeps_a_version_from_serving_and_says_why(
    server: ServerProcess, folder: Path
) -> None:
    how, why = state(server, "refused")
    assert how == "UNAVAILABLE"
    assert "warm-up sample 'night' failed: " in why
    assert server.get("/v2/models/refused/ready")[0] == 503
    assert server.get("/v2/health/ready")[0] == 200
    # A better sample, and it serves: the settings name it, so they are what has changed.
    sample(folder / "refused", "noon.json", [1, 2, 3])
    (folder / "refused" / "servable.toml").write_text('[[warmup]]\nfile = "noon.json"\n')
    until(lambda: state(server, "refused") == ("READY", ""), 20, "the corrected sample")


def test_warmup_that_may_fail_is_told_of_a_version_that_serves(server: ServerProcess) -> None:
    how, note = state(server, "allowed")
    assert how == "READY"
    assert "warm-up sample 'morning.json' failed: " in note


def test_warmup_whose_file_is_not_there_is_told(server: ServerProcess) -> None:
    how, why = state(server, "absent")
    assert how == "UNAVAILABLE"
    assert "absent/gone.json cannot be read: No such file or directory" in why


def test_warmup_whose_file_is_not_there_is_done_without_where_it_is_not_required(
    server: ServerProcess,
) -> None:
    assert state(server, "wished")[0] == "READY"
    assert "wished/gone.json cannot be read: No such file or directory; the sample" in server.log()


def test_warmup_that_kills_takes_no_worker_that_serves(server: ServerProcess) -> None:
    how, why = state(server, "deadly")
    assert how == "UNAVAILABLE"
    assert "the worker died while loading" in why
    assert "cpu-0" not in why
    status, told = server.predict({"servable": "good", "instances": [{"id": 1}]})
    assert status == 200, told


def test_warmup_of_triton_reads_its_files(server: ServerProcess, folder: Path) -> None:
    how, why = state(server, "triton")
    assert how == "UNAVAILABLE"
    assert "warm-up sample 'bytes' failed: " in why  # those very bytes were run
    (folder / "triton" / "warmup" / "ids").write_bytes(np.full(3, 5).tobytes())
    (folder / "triton" / "config.pbtxt").touch()
    (folder / "triton" / "1" / "model.onnx").touch()
    until(lambda: state(server, "triton") == ("READY", ""), 20, "the corrected file")
    config: dict[str, Any] = server.get("/v2/models/triton/config")[1]
    assert [told["name"] for told in config["model_warmup"]] == ["bytes"]


def test_warmup_that_is_gone_keeps_no_later_worker_from_its_model(
    server: ServerProcess, folder: Path
) -> None:
    (folder / "good" / "morning.json").unlink()
    (worker,) = server.workers()
    worker.kill()
    worker.wait(10)
    until(lambda: server.workers() != [], 20, "another worker")
    ask = {"servable": "good", "instances": [{"id": 1}]}
    until(lambda: server.predict(ask)[0] == 200, 20, "an answer from it")
    assert state(server, "good")[0] == "READY"


def test_warmup_that_fails_leaves_the_version_before_serving(
    server: ServerProcess, folder: Path
) -> None:
    sample(folder / "kept", "morning.json", [BAD_ID] * 3)
    (folder / "kept" / "servable.toml").write_text('[[warmup]]\nfile = "morning.json"\n')
    until(lambda: "failed" in state(server, "kept")[1], 20, "the trouble")
    how, why = state(server, "kept")
    assert how == "READY"
    assert "what was loaded before goes on" in why
    status, told = server.predict({"servable": "kept", "instances": [{"id": 1}]})
    assert status == 200, told
