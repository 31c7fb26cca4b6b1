"""What the command tells and writes at the end, for results that are made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from serving.bench.load import Load
from serving.cli.tune import _check_target, _Ending
from serving.errors import ConfigError
from serving.repository.settings import parse_settings
from serving.tune.forecast import Forecast, FrontCost, WorkerCost
from serving.tune.forecast import Load as Under
from serving.tune.machine import Machine
from serving.tune.overlay import Subject, find
from serving.tune.probe import FRONTS, WORKERS, Check, Prediction
from serving.tune.race import Standing
from serving.tune.report import About
from serving.tune.session import Result
from serving.tune.setting import Setting
from serving.tune.tuner import Outcome
from tests.unit.tune.test_parts import measured

MACHINE = Machine("Fast CPU", 2, "1.2", "1.30", "3.12")
START, BEST = Setting(8, 1.0), Setting(64, None, None, 2)
PREDICTION = Prediction(
    FrontCost(50e-6, 2e-9, 100e-6),
    WorkerCost(1e-3, 2e-4),
    Under(8, 500.0, 1, 64),
    {(n, m): Forecast(1000.0 * n * m, "workers", 8.0) for n in FRONTS for m in WORKERS},
    (Check(1, Forecast(1100.0, "cores", 8.0), 1000.0),),
)
WON = Standing(0.6931, 1, 1, False, True, True)
RESULT = Result(
    about=About("net", 1, "predict", "its example", Load(clients=8), 20.0),
    start=START,
    outcome=Outcome(BEST, True, True, True, WON, 0.02),
    measured=[*measured(START, 100, 100), *measured(BEST, 200)],
    decisions=[],
    problems={},
    prediction=PREDICTION,
    reason="",
)


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    home = tmp_path / "models" / "net" / "1"
    home.mkdir(parents=True)
    (home / "model.onnx").write_bytes(b"x")
    (home.parent / "servable.toml").write_text(
        "max_batch_size = 8  # ours\nmax_queue_delay_ms = 1\n"
    )
    return find(tmp_path / "models", "net")


def ended(result: Result, subject: Subject, write: bool) -> str:
    lines: list[str] = []
    _Ending(result, subject, MACHINE, write, lines.append).tell()
    return "\n".join(lines)


def test_without_write_the_difference_is_shown_and_nothing_changes(subject: Subject):
    text = ended(RESULT, subject, write=False)
    assert "--write makes this change" in text
    assert "+max_batch_size = 64  # ours" in text
    assert "-max_queue_delay_ms = 1" in text
    assert "serving start --workers 2 (or workers = 2 in the file of --config)" in text
    assert subject.folder is not None
    assert (subject.folder / "servable.toml").read_bytes() == subject.data


def test_with_write_the_file_says_it_and_what_was_changed(subject: Subject):
    text = ended(RESULT, subject, write=True)
    assert "Written to net/servable.toml" in text
    assert subject.folder is not None
    data = (subject.folder / "servable.toml").read_bytes()
    settings = parse_settings(data, "servable.toml")
    assert (settings.max_batch_size, settings.max_queue_delay_ms) == (64, None)
    assert b"# tune: max_batch_size = 64, max_queue_delay_ms = automatic\n" in data
    assert b"Fast CPU, 2 cores; serving 1.2, onnxruntime 1.30, Python 3.12\n" in data


def test_workers_alone_change_no_file(subject: Subject):
    only = START.having("workers", 2).having("frontends", 2)
    result = replace(
        RESULT,
        outcome=replace(RESULT.outcome, setting=only),
        measured=[*measured(START, 100), *measured(only, 200)],
    )
    text = ended(result, subject, write=True)
    assert "start --workers 2 --frontends 2 (or workers = 2, frontends = 2 in the file" in text
    assert "servable.toml" not in text
    assert subject.folder is not None
    assert (subject.folder / "servable.toml").read_bytes() == subject.data


def test_nothing_better_is_said_and_changes_nothing(subject: Subject):
    lost = replace(WON, gain=0.1, good=2, rounds=3)
    outcome = Outcome(START, False, True, False, lost, 0.3)
    text = ended(replace(RESULT, outcome=outcome), subject, write=True)
    assert "leave it so" in text
    assert "two measurements of one setting differ by 35% here" in text
    assert "+11% (median of 3 rounds in turns, better in 2), which may be chance" in text
    assert "the time was over" in text


def test_a_target_that_is_missed_writes_nothing_even_where_something_is_better(subject: Subject):
    about = replace(RESULT.about, target_ms=10.0)
    result = replace(RESULT, about=about, outcome=replace(RESULT.outcome, met=False))
    text = ended(result, subject, write=True)
    assert "Written" not in text
    assert subject.folder is not None
    assert (subject.folder / "servable.toml").read_bytes() == subject.data
    with pytest.raises(ConfigError, match="keeps a p99 of 10 ms") as error:
        _check_target(result)
    assert "at best 20 ms at 200 requests/s" in error.value.given
    near = replace(result, about=replace(about, target_ms=25.0))
    with pytest.raises(ConfigError, match="was shown to keep a p99 of 25 ms in this time"):
        _check_target(near)


def test_the_forecast_is_marked_as_one_and_held_against_what_was_measured(subject: Subject):
    text = ended(RESULT, subject, write=False)
    assert "Forecast, not measured" in text
    assert "16,000 (workers)" in text
    assert "here, with 2 cores: 1 worker: predicted 1,100 (limit: cores), measured 1,000" in text
    assert "off by +10%" in text
    assert "no forecast: it broke" in ended(
        replace(RESULT, prediction=None, reason="it broke"), subject, write=False
    )


def test_settings_that_could_not_be_tried_are_named(subject: Subject):
    result = replace(RESULT, problems={BEST: "no memory"})
    assert "note: with batch 64, delay auto, workers 2: no memory" in ended(result, subject, False)
