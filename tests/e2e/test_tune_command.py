"""``serving tune`` for real: short runs on a small servable, interrupted ones, and bad input."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psutil
import pytest
from click.testing import CliRunner, Result

from serving.cli import main
from serving.exit_codes import ExitCode
from serving.repository.scanner import scan
from serving.tune.overlay import Overlay, find
from serving.tune.server import OwnServer
from serving.tune.setting import Setting
from tests.server import until

ROOT = Path(__file__).resolve().parents[2]
SLOW = b"# penguins, by hand\nmax_queue_delay_ms = 250.0\n\n[labels]\nstable = 1  # ours\n"
"""Two clients never fill a batch: each request waits 250 ms, so that any change is a gain."""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SERVING_CACHE_DIR", str(tmp_path / "cache"))
    shutil.copytree(ROOT / "servables" / "penguins", tmp_path / "models" / "penguins")
    (tmp_path / "models" / "penguins" / "servable.toml").write_bytes(SLOW)
    return tmp_path / "models"


def tune(models: Path, *arguments: str) -> Result:
    short = ("--workers", "1", "--duration-s", "0.4", "--concurrency", "2")
    return CliRunner().invoke(main, ["tune", "--model-dir", str(models), *short, *arguments])


def settings(models: Path) -> bytes:
    return (models / "penguins" / "servable.toml").read_bytes()


_OTHERS: set[int] = set()
"""Processes that other tests keep for the session."""


@pytest.fixture(autouse=True)
def others() -> None:
    _OTHERS.clear()
    _OTHERS.update(process.pid for process in psutil.Process().children(recursive=True))


def mine() -> list[psutil.Process]:
    """Return the processes that this test has begun."""
    everyone = psutil.Process().children(recursive=True)
    return [process for process in everyone if process.pid not in _OTHERS]


def nothing_left() -> bool:
    return not [p for p in mine() if p.status() != psutil.STATUS_ZOMBIE]


def count_of(module: str) -> int:
    """Count processes of a module, without workers that only try models out."""
    found = 0
    for process in mine():
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            found += module in line and "--expendable" not in line
    return found


def test_own_server_serves_with_each_setting_that_it_is_told(models: Path, tmp_path: Path):
    subject = find(models, "penguins")
    start = Setting(32, 250.0)
    overlay = Overlay(subject, tmp_path / "scratch")
    overlay.fill()
    with OwnServer(overlay, "penguins", start, tmp_path / "scratch") as server:
        for setting in (
            start,
            Setting(4, None),
            Setting(32, 0.5, threads=1),
            Setting(32, 0.5, 1, 2),
            Setting(32, 0.5, 1, 1, 2),
        ):
            server.use(setting)
            config = server.get("/v2/models/penguins/config")
            queue = config["dynamic_batching"]
            assert config["max_batch_size"] == setting.max_batch_size
            delay_ms = setting.max_queue_delay_ms or 0
            assert queue["max_queue_delay_microseconds"] == delay_ms * 1000
            threads = config["parameters"].get("intra_op_thread_count", {}).get("string_value")
            assert threads == (None if setting.threads is None else str(setting.threads))
            assert count_of("serving.worker") == setting.workers
            assert count_of("serving.gateway") == (
                setting.frontends if setting.frontends > 1 else 0
            )
        assert server.read().front_cpu_s > 0
    assert settings(models) == SLOW
    assert nothing_left()


@pytest.mark.timeout(240)  # it ends by itself after 40 s, where the machine has time for it
def test_tune_writes_settings_that_are_better_and_are_taken(models: Path, tmp_path: Path):
    told, page = tmp_path / "out.json", tmp_path / "out.html"
    result = tune(
        models, "penguins", "--max-time-s", "90", "--write",
        "--json", str(told), "--plot", str(page),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    after = settings(models)
    assert after != SLOW
    assert b"# penguins, by hand\n" in after
    assert b"[labels]\nstable = 1  # ours\n" in after
    assert re.search(
        rb"# tune: measured \d{4}-\d\d-\d\d \d\d:\d\d UTC on .+, \d+ cores?; serving ", after
    )
    assert b"# tune: for most requests/s\n" in after
    (found,) = scan(models).servables
    assert found.reason == ""
    assert found.available == {1}
    document = json.loads(told.read_text())
    changed = document["after"]
    assert found.settings.max_queue_delay_ms == changed["max_queue_delay_ms"]
    assert found.settings.max_batch_size == changed["max_batch_size"]
    rates = {True: [], False: []}
    for m in document["measurements"]:
        if m["setting"] in (changed, document["before"]):
            rates[m["setting"] == changed].append(m["point"]["rate"])
    assert median(rates[True]) > 2 * median(rates[False])
    assert document["prediction"]["checks"][0]["measured"] > 0
    assert document["prediction"]["worker_cost_s"]["run_s"] >= 0
    assert "Forecast, not measured" in result.output
    assert "before" in result.output
    assert "Written to penguins/servable.toml" in result.output
    assert "as it is" in page.read_text()
    assert nothing_left()


def test_tune_says_how_near_the_best_came_to_a_target_that_nothing_keeps(models: Path):
    result = tune(models, "penguins", "--max-time-s", "1", "--latency-ms", "0.01", "--write")
    assert result.exit_code == ExitCode.TARGET_MISSED.value, result.output
    assert "keeps a p99 of 0.01 ms; nothing was written" in result.output
    assert re.search(r"at best [\d.]+ ms at [\d,.]+ requests/s", result.output)
    assert settings(models) == SLOW


def test_tune_measures_an_open_loop_and_a_bare_file_over_grpc(models: Path, tmp_path: Path):
    source = next((models / "penguins" / "1").glob("*.onnx"))
    shutil.copy(source, models / "bare.onnx")
    shutil.rmtree(models / "penguins")
    result = CliRunner().invoke(
        main,
        ["tune", "--model-dir", str(models), "bare", "--rate", "50", "--protocol", "grpc",
         "--workers", "1", "--duration-s", "0.2", "--max-time-s", "1", "--json", "-"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["load"]["rate"] == 50
    assert told["inputs"] == "made up"
    assert os.listdir(models) == ["bare.onnx"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("pengiuns",), ExitCode.REFUSED, "did you mean 'penguins'?"),
        (("penguins", "--rate", "5"), ExitCode.USAGE, "--concurrency or --rate, not both"),
        (("penguins", "--workers", "1,0"), ExitCode.USAGE, "list of whole numbers from 1 to 64"),
        (("penguins", "--plot", "x.bmp"), ExitCode.USAGE, "a name ending in .png"),
        (("penguins", "--inputs", "/nowhere.json"), ExitCode.USAGE, "nowhere.json"),
        (("penguins", "--latency-ms", "0"), ExitCode.USAGE, "--latency-ms"),
    ],
)
def test_tune_refuses_what_means_nothing(models: Path, arguments, code, text):
    result = tune(models, *arguments)
    assert result.exit_code == code.value, result.output
    assert text in result.output
    assert settings(models) == SLOW
    assert nothing_left()


def test_tune_says_that_the_folder_is_not_there(tmp_path: Path):
    result = tune(tmp_path / "nowhere", "penguins")
    assert result.exit_code == ExitCode.NO_MODEL_DIR.value


def test_tune_says_why_a_model_cannot_be_loaded(models: Path):
    broken = models / "broken" / "1" / "model.onnx"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"not a model")
    result = tune(models, "broken")
    assert result.exit_code == ExitCode.BAD_MODEL.value, result.output
    assert "no format that is known" in result.output
    assert nothing_left()


def test_tune_refuses_to_write_beside_a_bare_file(models: Path):
    (models / "bare.onnx").write_bytes(b"x")
    result = tune(models, "bare", "--write")
    assert result.exit_code == ExitCode.USAGE.value
    assert "move it to bare/1/" in result.output


@contextmanager
def running(models: Path, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], psutil.Process]]:
    """Run the command until its own server has a worker that was loaded; yields both."""
    command = [sys.executable, "-m", "serving", "tune", "--model-dir", str(models), "penguins",
               "--workers", "1", "--concurrency", "2", "--write"]  # fmt: skip
    temporary = log.parent / "tmp"
    temporary.mkdir()
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdout=sink, stderr=sink, env={**os.environ, "TMPDIR": str(temporary)}
        )
    try:
        until(lambda: psutil.Process(process.pid).children(), 30, "the tuning's own server")
        (server,) = psutil.Process(process.pid).children()
        until(lambda: list(temporary.glob("*/ready.json")), 60, "it to be ready")
        time.sleep(1.0)  # into a measurement; any moment must do
        yield process, server
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_tune_writes_nothing_and_leaves_nothing(models: Path, tmp_path: Path, number):
    log = tmp_path / "log"
    with running(models, log) as (process, server):
        family = [server, *server.children(recursive=True)]
        process.send_signal(number)
        assert process.wait(45) == 128 + signal.SIGINT
        assert not [p for p in family if p.is_running()]
    assert "nothing was written" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert settings(models) == SLOW
    assert list((tmp_path / "tmp").glob("serving-tune-*")) == []


def test_killed_tune_leaves_no_server(models: Path, tmp_path: Path):
    with running(models, tmp_path / "log") as (process, server):
        family = [server, *server.children(recursive=True)]
        process.kill()
        process.wait()
        until(lambda: not [p for p in family if p.is_running()], 45, "its server to stop")
    assert settings(models) == SLOW
