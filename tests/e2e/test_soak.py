"""A few seconds of everything at once: traffic good and bad, models replaced, workers killed."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import uvloop

from benchmarks import overload, reload, soak
from benchmarks.processes import serving
from tests import models


def test_soak_answers_nothing_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "models" / "swapped"
    models.tagged(home / "1" / "model.onnx", 1.0)
    models.picky(home.parent / "picky" / "1" / "model.onnx")
    models.slow(home.parent / "slow" / "1" / "model.onnx", ms=8)
    given = argparse.Namespace(minutes=0.1, each=2, replace_s=1.0, kill_s=1.5, plot=None)
    with serving(home.parent, "--poll-interval-s", "0.1", "--workers", "2") as running:
        right = uvloop.run(soak.scene(running, home, given))
    told = capsys.readouterr().out
    assert right, told
    for caller in ("rest", "grpc", "slow"):
        assert f"{caller:8} right" in told
    assert "model replaced" in told
    assert "worker killed" in told


def test_reload_scene_finds_every_answer_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "models" / "swapped"
    models.tagged(home / "1" / "model.onnx", 1.0)
    given = argparse.Namespace(clients=16, reloads=2, before=0.5)
    with serving(home.parent, "--poll-interval-s", "0.1") as running:
        ports = running.rest_port, running.grpc_port
        assert uvloop.run(reload.scene(*ports, home, given)), capsys.readouterr().out


def test_overload_scene_finds_each_request_answered_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "models" / "slow"
    models.slow(home / "1" / "model.onnx", ms=5)
    (home / "servable.toml").write_text("max_batch_size = 1\nmax_queue_size = 16\n")
    given = argparse.Namespace(seconds=1.5, factor=4, queue=16)
    with serving(home.parent) as running:
        proper = uvloop.run(overload.scene(running, given))
    told = capsys.readouterr().out
    assert proper, told
    assert "refused                 0" not in told
